"""The setting `track` at a hub: the process that trains sends the rounds, and `hub run` the test figures."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedbus.errors import SettingsError
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import record_run
from fedbus.system.files import write_json
from fedbus.tracking import tracker
from server.hub.deployed_run import prepare_deployment, run_deployment
from server.hub.run import run_deployed, track_end
from tests.grid import LocalGrid


def test_a_hub_tracks_every_round_once_and_the_test_figures(two_site_settings, tiny_folder, tmp_path):
    settings = two_site_settings.model_copy(update={"arms": ("fedavg",), "sites": {}, "track": "tensorboard"})
    record_run(tmp_path, settings)
    prepare_deployment(tmp_path, "first", {"north": 101, "south": 102}, ())
    run_deployment(LocalGrid(tiny_folder, ["north", "south"]), tmp_path)
    scored = {place: {"macro_f1": {"value": 0.25, "low": 0.125, "high": None}} for place in ("north", "all")}
    write_json(tmp_path / "results.json", {"arms": {"fedavg": scored}, "sites": {}})
    track_end(settings, tmp_path, False, print)
    read = EventAccumulator(str(tmp_path / "tensorboard" / "fedavg"), purge_orphaned_data=False).Reload()
    lines = arm_folder(tmp_path, settings, "fedavg", 0).read_history()
    assert len(lines) == settings.rounds
    for tag, take in (
        ("train/loss", lambda line: line["train_loss"]),
        ("validation/loss", lambda line: line["validation"]["loss"]),
        ("sites/south/validation_macro_f1", lambda line: line["sites"]["south"]["macro_f1"]),
        ("federation/participants", lambda line: 2),
    ):
        wanted = [(line["round"], pytest.approx(take(line))) for line in lines]
        assert [(event.step, event.value) for event in read.Scalars(tag)] == wanted
    found = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"] if "test/" in tag}
    tags = {"test/north/macro_f1": 0.25, "test/north/macro_f1_low": 0.125}
    tags |= {"test/all/macro_f1": 0.25, "test/all/macro_f1_low": 0.125}
    assert found == {tag: [(settings.rounds, value)] for tag, value in tags.items()}


def test_a_missing_package_stops_a_deployed_run_before_its_folder_is_made(two_site_settings, tmp_path, monkeypatch):
    class Hub:
        runs = tmp_path

    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    settings = two_site_settings.model_copy(update={"arms": ("fedavg",), "sites": {}, "track": "mlflow:http://h:1"})
    with pytest.raises(SettingsError, match="mlflow-skinny"):
        run_deployed(Hub(), settings, tmp_path / "first", resume=False, log=print)
    assert not (tmp_path / "first").exists()
