"""Strangers attack a hub while its sites train: the round finishes, and they can reach nothing but the gateway."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import psutil
import pytest

from clients.site.keys import read_private_key
from server.hub.connections import MAX_STRANGERS_PER_NETWORK
from server.hub.start import raise_file_limit
from simulations.local_federation import PATIENCE_SECONDS, LocalFederation
from tests.deployment.conftest import TIMEOUT_SECONDS, words_of, write_settings
from tests.signed_calls import signed_headers

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

SILENT_CONNECTIONS = 1100
"""More than the 1024 files that a process usually may open."""

HEAD = b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: hub\r\n"


class Attack:
    """What somebody does who has only ca.crt and a site's public key; each attack begins again when it is refused."""

    def __init__(self, federation: LocalFederation) -> None:
        self.port = federation.hub.settings.port
        self.context = ssl.create_default_context(cafile=str(federation.hub.ca_certificate))
        public = signed_headers(read_private_key(federation.sites["north"].key))["flwr-public-key"].encode()
        requests = {
            "endless header": HEAD + b"x: ",
            "endless body": HEAD + b"transfer-encoding: chunked\r\n\r\n10000\r\n",
            "body with only the public key": HEAD
            + b"content-length: 16000000\r\nflwr-public-key: "
            + public
            + b"\r\n\r\n",
        }
        self.refused = dict.fromkeys(requests, 0)
        self.stop = threading.Event()
        self.silent: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._send, args=request) for request in requests.items()]
        self.threads.append(threading.Thread(target=self._connect_silently))

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)

    def _send(self, name: str, start: bytes) -> None:
        while not self.stop.wait(0.5):  # the sites need the processor, too
            try:
                with self.context.wrap_socket(self._connect(), server_hostname="127.0.0.1") as stranger:
                    stranger.sendall(start)
                    while not self.stop.is_set():
                        stranger.sendall(b"a" * 65_536)
            except OSError:
                self.refused[name] += 1

    def _connect_silently(self) -> None:
        while len(self.silent) < SILENT_CONNECTIONS and not self.stop.is_set():
            with suppress(OSError):
                self.silent.append(self._connect())


@contextmanager
def attacked(federation: LocalFederation) -> Iterator[Attack]:
    attack = Attack(federation)
    for thread in attack.threads:
        thread.start()
    try:
        yield attack
    finally:
        attack.stop.set()
        for thread in attack.threads:
            thread.join()
        for stranger in attack.silent:
            stranger.close()


def connections(processes: list[psutil.Process], status: str) -> list[Any]:
    return [each for process in processes for each in process.net_connections("tcp") if each.status == status]


def test_a_round_finishes_while_strangers_attack(federation, tmp_path):
    raise_file_limit()  # of this process, for its own ends of the connections
    gateway = psutil.Process(federation.processes["hub"].pid)
    with attacked(federation) as attack:
        federation.wait_until(lambda: len(attack.silent) == SILENT_CONNECTIONS, "hub")
        run = federation.run(write_settings(tmp_path, "attacked", rounds=1))
        assert run.wait(PATIENCE_SECONDS) == 0, words_of(federation, "run")
        federation.wait_until(lambda: min(attack.refused.values()) > 0, "hub")
        accepted = [each for each in connections([gateway], "ESTABLISHED") if each.laddr.port == attack.port]
        ours = {stranger.getsockname() for stranger in attack.silent}
        assert sum(tuple(each.raddr) in ours for each in accepted) <= MAX_STRANGERS_PER_NETWORK
    lines = (federation.hub.runs / "attacked/arms/fedavg/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["participants"] for line in lines] == [["east", "north", "south"]]
    assert "Traceback" not in federation.log("hub").read_text()


def test_only_the_gateway_can_be_reached_from_other_machines(federation):
    roots = [psutil.Process(process.pid) for process in federation.processes.values() if process.poll() is None]
    found = [each for root in roots for each in [root, *root.children(recursive=True)]]
    addresses = {tuple(each.laddr) for each in connections(found, "LISTEN")}
    settings = federation.hub.settings
    assert (settings.listen, settings.port) in addresses
    assert ("127.0.0.1", settings.superlink_port) in addresses
    assert [each for each in addresses if not ip_address(each[0]).is_loopback] == [(settings.listen, settings.port)]
