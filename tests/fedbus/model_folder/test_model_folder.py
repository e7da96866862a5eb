"""A model folder gives back the model that the comparison scored, and names what is wrong with a damaged one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedbus.errors import RunError
from fedbus.evaluation.predictions import Predictions
from fedbus.model_folder.apply import LEAST_TO_ADAPT, open_model
from fedbus.model_folder.facts import ModelFacts, Part
from fedbus.model_folder.read import read_model
from fedbus.models.batch_norm import own_names
from fedbus.settings.load import build_settings
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.site import open_site, read_facts


@pytest.fixture
def model(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the federated arm's folder, without its run."""
    return Path(shutil.copytree(trained_run / "arms/fedavg", tmp_path / "model"))


@pytest.mark.parametrize("arm", ["fedavg", "centralised", "fedavg-tuned", "local-north"])
def test_a_copied_folder_predicts_what_the_comparison_did(trained_run: Path, tmp_path: Path, arm: str) -> None:
    folder = read_model(Path(shutil.copytree(trained_run / "arms" / arm, tmp_path / "elsewhere")))
    expected = Predictions.from_csv(trained_run / "arms" / arm / "predictions.csv")
    for name in folder.facts.sites:
        site = open_site(trained_run, name)
        found = open_model(folder, name).predict(site.pixels[site.splits["test"]])
        np.testing.assert_array_equal(found, expected.select(name).probabilities)


def test_sites_of_fedbn_have_arrays_of_their_own(trained_run: Path) -> None:
    folder = read_model(trained_run / "arms/fedavg")
    assert not folder.facts.complete
    north, south = (open_model(folder, name).module.state_dict() for name in ("north", "south"))
    differing = [key for key in north if not north[key].equal(south[key])]
    assert differing
    assert set(differing) <= set(own_names("local", north))


def test_elsewhere_statistics_are_those_of_the_new_images(trained_run: Path) -> None:
    folder, images = read_model(trained_run / "arms/fedavg"), np.array(open_site(trained_run, "south").pixels)
    applied = open_model(folder, images=images)
    assert applied.arrays == "adapted"
    shuffled = np.random.default_rng(0).permutation(len(images))
    again = open_model(folder, images=images[shuffled])
    np.testing.assert_array_equal(applied.predict(images), again.predict(images))


def test_a_model_without_statistics_needs_a_site_or_enough_images(trained_run: Path) -> None:
    folder = read_model(trained_run / "arms/fedavg")
    few = np.zeros((LEAST_TO_ADAPT - 1, 32, 32), dtype=np.uint8)
    for images in (None, few):
        with pytest.raises(RunError, match="north, south"):
            open_model(folder, images=images)
    with pytest.raises(RunError, match="north, south"):
        open_model(read_model(trained_run / "arms/fedavg-tuned"), images=np.zeros((64, 32, 32), dtype=np.uint8))
    with pytest.raises(RunError, match="'west'"):
        open_model(folder, "west")


def test_seen_images_are_those_of_training_and_validation(trained_run: Path) -> None:
    pixels = Path(read_facts(trained_run)["north"]["pixels"])
    site, seen = open_site(trained_run, "north"), read_model(trained_run / "arms/local-north").seen()
    assert seen is not None
    rows = {tuple(each) for split in ("train", "validation") for each in read_hashes(pixels)[site.splits[split]]}
    assert {tuple(each) for each in seen.hashes} == rows
    assert not seen.patients  # its readers are no published datasets


def change(content: dict[str, Any], **values: Any) -> dict[str, Any]:
    return content | values


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda facts: change(facts, format=2, fedbus="9.0"), "format 2, written by version 9.0"),
        (lambda facts: change(facts, classes=["a", "b", "c"]), "classes are a, b, c"),
        (
            lambda facts: change(facts, weights={"file": "../../weights", "sha256": "0" * 64}),
            "not a file of the folder",
        ),
        (lambda facts: {key: value for key, value in facts.items() if key != "architecture"}, "architecture"),
    ],
)
def test_a_model_file_that_cannot_be_used_is_named(
    model: Path, edit: Callable[[dict[str, Any]], dict[str, Any]], named: str
) -> None:
    file = model / "model.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    with pytest.raises(RunError, match=named) as caught:
        read_model(model)
    assert str(file) in caught.value.problem


def test_missing_and_damaged_parts_are_named(model: Path) -> None:
    folder = read_model(model)
    (model / "own-south.safetensors").write_bytes((model / "own-north.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"own-south\.safetensors is damaged"):
        open_model(folder, "south")
    (model / "own-south.safetensors").unlink()
    with pytest.raises(RunError, match=r"lacks own-south\.safetensors"):
        read_model(model)


def test_a_model_json_that_was_cut_off_is_copied_again(model: Path) -> None:
    (model / "model.json").write_text("{")
    with pytest.raises(RunError, match=r"model\.json is missing or damaged") as caught:
        read_model(model)
    assert "Copy the whole model folder again" in caught.value.remedy


def test_other_folders_are_explained(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a run with several models") as caught:
        read_model(trained_run)
    assert "arms/fedavg" in caught.value.remedy
    with pytest.raises(RunError, match="no model of its own"):
        read_model(trained_run / "arms/fedavg-blended")
    with pytest.raises(RunError, match="is not a model folder"):
        read_model(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        read_model(tmp_path / "nowhere")


def test_a_model_without_batch_norm_is_complete_whatever_the_policy() -> None:
    def facts(model: str) -> ModelFacts:
        settings = build_settings({"model": model, "image-size": 160, "batch-norm": "local"}, "the tests")
        weights = Part(file="final.safetensors", sha256="0" * 64)
        return ModelFacts.from_settings(
            settings, arm="fedavg", seed=0, run="", phantoms=True, predicts=None, weights=weights, sites={}
        )

    assert facts("test_vit").complete
    assert not facts("test_resnet").complete
