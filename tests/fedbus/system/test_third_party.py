"""Settings of third-party libraries."""

import os
import urllib.request

import httpx
import pytest

from fedbus.system.third_party import silence_third_party


@pytest.mark.parametrize("named", ["", "intranet.example.org, 10.0.0.1", "*"])
def test_no_proxy_is_used_within_this_machine_and_the_users_exceptions_are_kept(named, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", named)
    monkeypatch.setenv("no_proxy", named)
    silence_third_party()
    for host in ("localhost", "127.0.0.1"):
        assert urllib.request.proxy_bypass_environment(host)
    assert urllib.request.proxy_bypass_environment("hub.example.org") == (named == "*")
    for name in (part.strip() for part in named.split(",") if part):
        assert name in os.environ["NO_PROXY"].split(",")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    with httpx.Client() as client:  # as Flower makes it
        transport = client._transport_for_url(httpx.URL("https://127.0.0.1:9093/"))
        assert transport is client._transport, "not that of the proxy"
