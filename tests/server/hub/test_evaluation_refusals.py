"""What `fedbus hub evaluate` refuses before anything is written or sent."""

import json
import shutil
from pathlib import Path

import pytest

from fedbus.errors import RunError, SettingsError, WeightsError
from fedbus.model_folder.facts import ModelFacts, SiteFacts
from fedbus.model_folder.write import write_model
from fedbus.models.start import start_state
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.folder import record_run
from server.hub.approved_sites import ApprovedSite
from server.hub.evaluation import evaluate_model
from server.hub.evaluation_run import GIVEN
from server.hub.folder import HubFolder, init_hub
from server.hub.run import run_deployed
from tests.given_model import model_folder


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    """A hub that is not running, with one approved site."""
    found = init_hub(tmp_path / "hub", "hub.example.org")
    found.add_site(ApprovedSite("north", 101, f"SHA256:{1:043}", "2026-01-31T12:00:00+00:00"))
    return found


def refuse(hub: HubFolder, model: Path, words: str, error: type[Exception] = RunError) -> str:
    before = sorted(hub.runs.rglob("*"))
    with pytest.raises(error, match=words) as refused:
        evaluate_model(hub, model, None, resume=False, log=lambda line: None)
    assert sorted(hub.runs.rglob("*")) == before, "nothing is written"
    return str(refused.value.remedy)


def test_what_can_not_be_evaluated_is_refused_before_anything_is_written(hub, two_site_settings, tmp_path):
    state = start_state("test_resnet", "none", 3)
    refuse(hub, tmp_path / "missing", "does not exist")
    record_run(hub.runs / "first", two_site_settings)
    shutil.copytree(model_folder(tmp_path / "fedavg", two_site_settings, state), hub.runs / "first/arms/fedavg")
    assert "first/arms/fedavg" in refuse(hub, hub.runs / "first", "is a run with several models")
    whole = model_folder(tmp_path / "whole", two_site_settings, state)
    assert "fedbus hub start" in refuse(hub, whole, "is not running")
    damaged = Path(shutil.copytree(whole, tmp_path / "damaged"))
    (damaged / "best.safetensors").write_bytes(b"cut")
    refuse(hub, damaged, r"best\.safetensors is damaged")
    other = model_folder(tmp_path / "other", two_site_settings.model_copy(update={"model": "resnet18"}), state)
    refuse(hub, other, "are not those of resnet18", WeightsError)
    content = json.loads((whole / MODEL_FILE).read_text())
    own = {"east": SiteFacts(images={}, own=ModelFacts.model_validate(content).weights)}
    tuned = Path(shutil.copytree(whole, tmp_path / "tuned"))
    write_model(tuned, ModelFacts.model_validate(content | {"weights": None, "sites": own}))
    refuse(hub, tuned, "has a model of each of its sites, none for others")


def test_an_evaluation_is_not_continued_as_a_training(hub, two_site_settings):
    (hub.runs / "elsewhere" / GIVEN).mkdir(parents=True)
    with pytest.raises(RunError, match="is an evaluation, not a training"):
        run_deployed(hub, two_site_settings, hub.runs / "elsewhere", resume=True, log=lambda line: None)


def test_a_hub_without_sites_says_how_to_approve_one(two_site_settings, tmp_path):
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    assert "hub approve" in refuse(init_hub(tmp_path / "hub", "hub.example.org"), given, "No site is approved")


def test_a_run_outside_the_hubs_folder_is_refused(hub, two_site_settings, tmp_path):
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    with pytest.raises(SettingsError, match="not a folder directly in"):
        evaluate_model(hub, given, tmp_path / "out", resume=False, log=lambda line: None)
