"""The status of a site: whether it is joined, and which models it has received."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from clients.site import status
from clients.site.folder import SiteFolder
from clients.site.hub_contact import Contact
from clients.site.lock import hold
from fedbus.errors import RunError
from tests.site_folders import make_site


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    (tmp_path / "ward [red]").mkdir()  # what a library for terminals might take for a colour
    return make_site(tmp_path / "ward [red]", "hub.example.org:9092")


@pytest.fixture
def hub(monkeypatch) -> list[str]:
    """What is wrong at the hub; nothing, if empty."""
    problems: list[str] = []

    def ask(site: SiteFolder) -> Contact:
        return Contact(answers=True, problem=problems[0] if problems else "")

    monkeypatch.setattr(status, "ask_hub", ask)
    return problems


def shown(site: SiteFolder) -> str:
    console = Console(file=io.StringIO(), width=400)
    status.print_status(site, console)
    return console.file.getvalue()


def receive(site: SiteFolder, title: str, accuracy: float | None) -> Path:
    figure = None if accuracy is None else {"value": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
    path = site.models / title / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"accuracy": figure, "macro_f1": figure, "auc": None}))
    return path


def test_a_new_site_says_what_is_missing(site, hub):
    text = shown(site)
    assert "st-mary  (hub: hub.example.org:9092)" in text
    assert f"not joined; the hub accepts this site: fedbus site join {site.path}" in text
    assert "Images: not set; run: fedbus site check --data" in text
    assert "Approved studies: none" in text
    assert "No model received yet." in text


def test_the_hubs_problem_is_shown(site, hub):
    hub.append("the hub does not answer [timeout]")
    assert "not joined; the hub does not answer [timeout]" in shown(site)


def test_a_joined_site_does_not_ask_the_hub(site, monkeypatch):
    monkeypatch.setattr(status, "ask_hub", lambda site: pytest.fail("its key is in use"))
    with hold(site):
        assert "joined: a process on this machine is connected to the hub" in shown(site)


def test_images_and_approvals_are_shown(site, hub, tmp_path):
    (tmp_path / "data [x]").mkdir()
    site.approve_any_study("a" * 64)
    site.approve_any_study("b" * 64)
    text = shown(site.with_data("class-folders", tmp_path / "data [x]"))
    assert f"Images: {tmp_path / 'data [x]'} (reader: class-folders)" in text
    for digest in ("a" * 64, "b" * 64):
        assert f"Approved for ANY study, application:\n  {digest}" in text


def test_models_are_listed_oldest_first_with_their_figures_and_whole_paths(site, hub):
    later, first = receive(site, "a-later", 0.75), receive(site, "b-first", None)
    os.utime(first, (1, 1))
    lines = shown(site).splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("Received model"))
    assert len(lines) == head + 3
    assert lines[head + 1].split(" [red]")[1].split()[0].endswith("b-first")
    assert lines[head + 2].startswith(str(later.parent))
    assert lines[head + 2].count(".750 (.650") == 2


def test_the_latest_model_can_be_used_next(site, hub):
    folder = receive(site, "run", 0.5).parent
    assert "fedbus predict" not in shown(site), "an earlier version received it"
    (folder / "model.json").write_text("{}")
    assert f"Next: fedbus predict '{folder}' IMAGES --as st-mary" in shown(site)
    assert "not a medical device" in shown(site)


def test_damaged_figures_are_named(site, hub):
    receive(site, "run", 0.5).write_text("{")
    with pytest.raises(RunError, match=r"run/metrics\.json"):
        shown(site)
