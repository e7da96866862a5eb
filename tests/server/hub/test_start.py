"""The approved keys of a running hub: read again whenever their file has changed, and only then."""

import os
import resource
import socket
from pathlib import Path

import pytest

from fedbus.errors import RunError
from server.hub import start as hub_module
from server.hub.approved_sites import APPROVED_SITES, ApprovedSite
from server.hub.folder import HubFolder, init_hub
from server.hub.start import MAX_OPEN_FILES, ApprovedKeys, raise_file_limit, serve


def approved(name: str, node: int) -> ApprovedSite:
    return ApprovedSite(name, node, f"SHA256:{name[0] * 43}", "2026-01-31T12:00:00+00:00")


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "127.0.0.1")


def test_approving_and_revoking_take_effect_at_the_next_call(hub):
    keys = ApprovedKeys(hub)
    assert keys() == set()
    hub.add_site(approved("north", 1))
    assert keys() == {f"SHA256:{'n' * 43}"}
    hub.add_site(approved("south", 2))
    assert keys() == {f"SHA256:{'n' * 43}", f"SHA256:{'s' * 43}"}
    hub.remove_site("north")
    assert keys() == {f"SHA256:{'s' * 43}"}


def test_a_change_within_one_tick_of_the_clock_is_noticed(hub):
    keys = ApprovedKeys(hub)
    hub.add_site(approved("north", 1))
    assert keys()
    stamp = (hub.path / APPROVED_SITES).stat()
    hub.remove_site("north")
    os.utime(hub.path / APPROVED_SITES, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert keys() == set()


def test_an_unchanged_file_is_not_read_again(hub, monkeypatch):
    keys, reads, read = ApprovedKeys(hub), [], HubFolder.sites
    monkeypatch.setattr(HubFolder, "sites", lambda folder: reads.append(1) or read(folder))
    for _ in range(5):
        keys()
    assert len(reads) == 1
    hub.add_site(approved("north", 1))
    reads.clear()
    assert len(keys()) == len(keys()) == len(reads) == 1


def test_a_damaged_file_approves_no_key_until_it_is_fixed(hub):
    keys = ApprovedKeys(hub)
    hub.add_site(approved("north", 1))
    assert keys()
    good = (hub.path / APPROVED_SITES).read_text()
    (hub.path / APPROVED_SITES).write_text("[")
    for _ in range(2):
        with pytest.raises(RunError, match=APPROVED_SITES):
            keys()
    (hub.path / APPROVED_SITES).write_text(good)
    assert len(keys()) == 1


def test_a_port_in_use_is_named_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "start_superlink", lambda hub, secret_file, gateway: pytest.fail("it was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        hub = init_hub(tmp_path / "hub", "127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(RunError, match=rf":{taken.getsockname()[1]} can't be used"):
            serve(hub, lambda: None)


def test_the_approved_sites_are_checked_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "start_superlink", lambda hub, secret_file, gateway: pytest.fail("it was started"))
    monkeypatch.setattr(hub_module, "_check_port_is_free", lambda host, port: None)
    hub = init_hub(tmp_path / "hub", "127.0.0.1")
    hub.add_site(approved("north", 1))
    with pytest.raises(RunError, match="no public key of north"):
        serve(hub, lambda: None)


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raise_file_limit()
        allowed = [MAX_OPEN_FILES] if hard == resource.RLIM_INFINITY else [MAX_OPEN_FILES, hard]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(allowed), hard)
        raise_file_limit()  # never lowered
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(allowed), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
