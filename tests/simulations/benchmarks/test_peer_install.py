"""Peers are installed apart from this environment, in the versions that their requirements name."""

import re

import pytest

from fedbus.system.processes import environment_with
from simulations.benchmarks import peer_install
from simulations.benchmarks.peer_install import REQUIREMENTS, find_peer, install_peer, wanted_packages

LOCK = REQUIREMENTS / "fedbus.lock"


@pytest.fixture(params=["pfl", "nvflare", "fluke"])
def peer(request) -> str:
    """The name of a peer."""
    return str(request.param)


def test_every_requirement_has_a_hash(peer):
    text = (REQUIREMENTS / f"peer-{peer}.txt").read_text()
    packages = re.split(r"^(?=[\w-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(packages) == len(wanted_packages(peer))
    assert all("--hash=sha256:" in each for each in packages)


def test_a_peer_brings_nothing_that_our_own_lock_pins():
    """Else the peer would train with another PyTorch, or we would when it is on PYTHONPATH."""
    ours = {line.split("==")[0] for line in LOCK.read_text().splitlines() if re.match(r"[\w.-]+==", line)}
    for peer in ("nvflare", "fluke"):
        assert not {each.split("==")[0] for each in wanted_packages(peer)} & ours, peer
    shared = {each.split("==")[0] for each in wanted_packages("pfl")} & ours
    assert shared <= {"absl-py", "wrapt"}


def test_an_empty_folder_contains_no_peer(peer, tmp_path):
    assert not find_peer(peer, tmp_path)
    assert not find_peer(peer, tmp_path / "missing")


def test_every_requirement_must_be_installed_in_its_version(peer, tmp_path):
    for name, version in (each.split("==") for each in sorted(wanted_packages(peer))):
        assert not find_peer(peer, tmp_path)
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('-', '_')}\nVersion: {version}\n")
    assert find_peer(peer, tmp_path)
    assert install_peer(peer, tmp_path) == tmp_path, "an installed peer is not downloaded again"


def test_no_network_is_a_reason_and_not_an_error(tmp_path, monkeypatch):
    nowhere = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    monkeypatch.setattr(peer_install, "environment_with", lambda settings: environment_with(nowhere))
    reason = install_peer("pfl", tmp_path / "peer")
    assert isinstance(reason, str)
    assert "uv could not install it" in reason
    monkeypatch.setattr(peer_install, "environment_with", lambda settings: {"PATH": str(tmp_path)})
    assert "No such file" in str(install_peer("pfl", tmp_path / "peer"))
