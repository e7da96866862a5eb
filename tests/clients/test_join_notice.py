"""What `fedbus site join` prints and logs of a study before any work, and how its refusal reads at the hub."""

import threading

import pytest
from flwr.app import Context, RecordDict

from clients import join
from clients.app import make_client_app
from clients.workspace import workspace_of_site
from fedbus.errors import RunError
from fedbus.transport.messages import Instruction
from server.rounds.registration import register_sites
from tests.archives import make_class_folders
from tests.grid import LocalGrid
from tests.site_folders import make_site
from tests.tiny import tiny_settings

CONTEXT = Context(1, 7, {}, RecordDict(), {})


@pytest.fixture
def site(tmp_path):
    counts = {"benign": 40, "malignant": 36, "normal": 36}
    return make_site(tmp_path).with_data("class-folders", make_class_folders(tmp_path / "bus", counts))


def test_the_operator_sees_the_settings_of_a_study_before_it_is_prepared(site, monkeypatch):
    said: list[str] = []
    found: list = []
    monkeypatch.setattr("clients.app.make_client_app", lambda find_workspace: found.append(find_workspace))

    def prepare(*_: object) -> None:
        assert len(said) == 1, "shown before"

    monkeypatch.setattr("clients.workspace.workspace_of_site", prepare)
    join._make_worker(site, b"", threading.Event(), said.append, said.append)
    find_workspace = found[0]
    find_workspace(CONTEXT, Instruction(tiny_settings(rounds=36), 7, (), title="spring-fedavg-7"))
    assert "study spring-fedavg-7, seed 7:" in said[0]
    assert "rounds = 36 (default 12)" in said[0]
    assert said[0] in site.log.read_text(encoding="utf-8")
    said.clear()
    find_workspace(CONTEXT, Instruction(tiny_settings(rounds=36), 7, (), title="given", task="evaluation"))
    assert said[0].startswith("evaluation of the model given, seed 7:")


def test_what_an_earlier_run_left_in_memory_is_dropped(site, monkeypatch):
    forgotten, found = [], []
    monkeypatch.setattr("clients.app.make_client_app", lambda find_workspace: found.append(find_workspace))
    monkeypatch.setattr("clients.workspace.workspace_of_site", lambda *_: None)
    monkeypatch.setattr("clients.work.forget", lambda: forgotten.append(True))
    join._make_worker(site, b"", threading.Event(), lambda _: None, lambda _: None)
    counts = []
    for settings, seed in (
        (tiny_settings(), 1),
        (tiny_settings(), 1),
        (tiny_settings(), 2),
        (tiny_settings(rounds=9), 2),
    ):
        found[0](CONTEXT, Instruction(settings, seed, ()))
        counts.append(len(forgotten))
    assert counts == [1, 1, 2, 3]


def test_a_refusal_is_read_at_the_hub_by_name(site):
    grid = LocalGrid(site.work, ["st-mary"])
    grid.app = make_client_app(lambda context, instruction: workspace_of_site(site, instruction))
    node = next(iter(grid.names))
    settings = tiny_settings(limit=30, folds=2)
    with pytest.raises(RunError) as failed:
        register_sites(grid, {node: "st-mary"}, Instruction(settings, 7, ()), 1, 5, threading.Event())
    assert "st-mary" in failed.value.problem
    assert "This site refuses the study" in failed.value.problem
    assert "fewer benign images in validation than this site's min-images = 3" in failed.value.problem
    assert str(site.path) not in failed.value.problem
