"""The setting `track`: what it accepts, and who learns of it."""

import pytest

from fedbus.errors import SettingsError
from fedbus.reports.comparison.results import shown_settings
from fedbus.settings.load import build_settings, load_settings
from fedbus.settings.schema import Settings
from fedbus.settings.track import tracker_kind, tracking_server

SERVER = "mlflow:https://tracking.example.org:5000/mlflow"


@pytest.mark.parametrize(
    ("track", "kind", "server"),
    [("", "", ""), ("tensorboard", "tensorboard", ""), (SERVER, "mlflow", SERVER.removeprefix("mlflow:"))],
)
def test_a_tracker_is_a_kind_and_an_address(track, kind, server):
    found = load_settings(None, [f"track={track}"]).track
    assert (tracker_kind(found), tracking_server(found)) == (kind, server)


@pytest.mark.parametrize(
    ("track", "said"),
    [
        ("wandb", "use tensorboard or mlflow:URI"), ("mlflow", "mlflow:http://127.0.0.1:5000"),
        ("mlflow:runs/mlruns", "mlflow server --port 5000"), ("mlflow:file:///tmp", "mlflow server"),
        ("mlflow:http://[", "does not name an MLflow server"),
    ],
)  # fmt: skip
def test_anything_else_is_explained(track, said):
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"track={track}"])
    assert said in caught.value.problem


@pytest.mark.parametrize("address", ["http://me:hunter2@host:1", "https://hunter2@host"])
def test_an_address_with_a_password_is_refused_without_printing_it(address):
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        build_settings({"track": f"mlflow:{address}"}, "the tests")
    assert "hunter2" not in str(caught.value)


def test_sites_do_not_receive_the_setting():
    assert "track" not in Settings(track=SERVER).for_sites()


def test_a_report_names_the_tracker_without_its_address():
    assert shown_settings(Settings(track=SERVER))["track"] == "mlflow"
    assert "track" not in shown_settings(Settings())
