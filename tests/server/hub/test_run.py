"""What `fedbus hub run` refuses before anything is started; a run to its end: tests/deployment."""

from types import SimpleNamespace

import pytest

from fedbus.errors import RunError, SettingsError
from fedbus.settings.load import build_settings
from server.hub import flwr_cli
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import init_hub, open_hub
from server.hub.run import load_deployed_settings, run_deployed, start_and_follow
from server.hub.run_status import read_status
from tests.tiny import tiny_settings


@pytest.fixture
def hub(tmp_path):
    return init_hub(tmp_path / "hub", "hub.example.org")


def refuse(hub, out, words, error=SettingsError, **changes):
    settings = build_settings(tiny_settings().as_dict() | {"arms": ["fedavg"]} | changes, "the test")
    said: list[str] = []
    with pytest.raises(error, match=words):
        run_deployed(hub, settings, out, resume=False, log=said.append)
    assert not out.exists()
    return said


def test_a_run_folder_must_be_directly_in_the_hubs_runs(hub, tmp_path):
    refuse(hub, tmp_path / "elsewhere", "not a folder directly in")
    refuse(hub, hub.runs / "deeper" / "run", "not a folder directly in")


def test_a_hub_opened_through_a_symlink_is_the_same_hub(hub, tmp_path):
    (tmp_path / "link").symlink_to(hub.path)
    refuse(open_hub(tmp_path / "link"), hub.runs / "first", "No site is approved", RunError)


@pytest.mark.parametrize("name", ["my run", "étude", "_x", "x" * 95])
def test_a_name_that_sites_refuse_is_refused_at_the_hub(hub, name):
    refuse(hub, hub.runs / name, "can't be the name of a run")


def test_a_hub_without_sites_says_how_to_approve_one(hub):
    refuse(hub, hub.runs / "first", "No site is approved", RunError)


def approve(hub, *names):
    for number, name in enumerate(names, 1 + len(hub.sites())):
        hub.add_site(ApprovedSite(name, number, f"SHA256:{number:043}", "2026-01-31T12:00:00+00:00"))


def test_a_robust_arm_that_protects_nobody_with_these_sites_is_refused(hub):
    approve(hub, "east", "north", "south")
    refuse(hub, hub.runs / "first", "7 updates per round", arms=["fedavg", "bulyan"])
    refuse(hub, hub.runs / "first", "3 updates per round", arms=["fedmedian"], quorum=2)
    refuse(hub, hub.runs / "first", "is not running", RunError, arms=["fedmedian"])


def test_under_secure_aggregation_a_run_says_at_its_start_how_many_sites_a_round_can_lose(hub):
    approve(hub, "east", "north")
    secure = {"privacy": "secure-aggregation"}
    refuse(hub, hub.runs / "first", "at least 3 sites", **secure)
    approve(hub, "south")
    assert "it cannot lose one" in refuse(hub, hub.runs / "first", "is not running", RunError, **secure)[-1]
    approve(hub, "west")
    said = refuse(hub, hub.runs / "first", "is not running", RunError, **secure, quorum=3)
    assert said == [
        "secure aggregation with 4 sites: a round needs 3, so it can lose 1, and continues with the others' exact mean"
    ]


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "stopped"), (RunError("Flower refused it.", "Start the hub."), "failed")]
)
def test_a_run_that_ends_while_it_is_started_says_so_in_its_status(error, state, hub, monkeypatch):
    def fail() -> None:
        raise error

    monkeypatch.setattr(flwr_cli, "start_run", lambda *_: SimpleNamespace(run=fail))
    with pytest.raises(type(error)):
        start_and_follow(hub, hub.path, hub.runs / "first", lambda line: None)
    assert read_status(hub.runs / "first").state == state


def test_arms_that_need_images_are_left_out_and_logged(tmp_path):
    path, said = tmp_path / "settings.toml", []
    path.write_text('arms = ["local", "centralised", "fedprox"]\n')
    settings = load_deployed_settings(path, (), said.append)
    assert settings.arms == ("fedprox",)
    assert said == ["left out: local, centralised (a hub has no images to train on)"]
    path.write_text('arms = ["local"]\n')
    with pytest.raises(SettingsError, match="names no federated arm"):
        load_deployed_settings(path, (), said.append)


def test_a_split_that_leaks_on_purpose_is_not_deployed(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('arms = ["fedavg"]\nsplit = "images"\n')
    with pytest.raises(SettingsError, match=r"split = images.*leaks on purpose"):
        load_deployed_settings(path, (), print)
