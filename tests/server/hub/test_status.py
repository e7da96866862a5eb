"""The status of a hub: which sites are connected, and the progress of the latest run."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import hold
from server.hub import flwr_cli, status
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import HubFolder, init_hub
from server.hub.run_status import STATUS_FILE, Status, write_status


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "hub.example.org", port=9555)


@pytest.fixture
def nodes(monkeypatch) -> list[dict[str, str]]:
    """The nodes that Flower lists; the hub is running."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(status, "is_up", lambda hub: True)
    monkeypatch.setattr(flwr_cli.FlwrCommand, "run", lambda call: {"success": True, "nodes": found})
    return found


def shown(hub: HubFolder) -> str:
    console = Console(file=io.StringIO(), width=140)
    status.print_status(hub, console)
    return console.file.getvalue()


def approve(hub: HubFolder, *names: str) -> None:
    for node, name in enumerate(names, 2**63):
        hub.add_site(ApprovedSite(name, node, f"SHA256:{name[0] * 43}", "2026-01-31T12:00:00+00:00"))


def line_of(text: str, word: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(word)]
    return line


def test_a_new_hub_that_is_not_running_says_how_to_start_it(hub, monkeypatch):
    monkeypatch.setattr(status, "is_up", lambda hub: False)
    monkeypatch.setattr(flwr_cli.FlwrCommand, "run", lambda call: pytest.fail("a hub that is down was asked"))
    text = shown(hub)
    assert "Hub hub.example.org:9555  not running" in text
    assert f"fedbus hub start {hub.path}" in text.replace("\n", "")
    assert "No site is approved yet." in text
    assert "No run yet." in text


def test_each_site_has_its_own_state(hub, nodes):
    approve(hub, "north", "south", "west")
    nodes += [{"node-id": str(2**63), "status": "online"}, {"node-id": str(2**63 + 1), "status": "offline"}]
    nodes += [{"node-id": "5", "status": "online"}]
    text = shown(hub)
    assert "running" in line_of(text, "Hub")
    assert line_of(text, "north").split() == ["north", "online", "2026-01-31", f"SHA256:{'n' * 43}"]
    assert line_of(text, "south").split()[1] == "offline"
    assert line_of(text, "west").split()[1] == "unknown"


def test_sites_of_a_hub_that_is_down_are_unknown(hub, monkeypatch):
    monkeypatch.setattr(status, "is_up", lambda hub: False)
    approve(hub, "north")
    assert line_of(shown(hub), "north").split()[1] == "unknown"


def test_the_run_with_the_latest_status_is_shown(hub, nodes):
    write_status(hub.runs / "b-first", Status("finished"))
    write_status(hub.runs / "a-later", Status("training", "south is [slow]", "fedavg", 1, round=2, rounds=5))
    os.utime(hub.runs / "b-first" / STATUS_FILE, (1, 1))
    with hold(hub.runs / "a-later" / RUNNING, "taken", "wait"):
        assert "Run a-later: training fedavg, round 2 of 5: south is [slow] (20" in shown(hub)
    assert "Run a-later: interrupted after round 2; rerun with --resume" in shown(hub)
    write_status(hub.runs / "a-later", Status("evaluating", "north test the model"))
    assert "Run a-later: interrupted; rerun with --resume" in shown(hub)
    with hold(hub.runs / "a-later" / RUNNING, "taken", "wait"):
        assert "Run a-later: evaluating north test the model (20" in shown(hub)
    write_status(hub.runs / "b-first", Status("failed", "It broke."))
    os.utime(hub.runs / "a-later" / STATUS_FILE, (1, 1))
    assert "Run b-first: failed It broke. (20" in shown(hub)


def test_a_damaged_status_is_named(hub, nodes):
    write_status(hub.runs / "first", Status("waiting"))
    (hub.runs / "first" / STATUS_FILE).write_text("{}")
    with pytest.raises(RunError, match=STATUS_FILE):
        shown(hub)


def test_watching_ends_with_ctrl_c(hub, nodes, monkeypatch):
    approve(hub, "north")
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        nodes[:] = [{"node-id": str(2**63), "status": "online"}]
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=sleep))
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    status.watch_status(hub, console)
    text = console.file.getvalue()
    assert text.index("unknown") < text.index("online")
