"""Scoring: the kept weights on every hospital's rows of a part, written once and read back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedbus.errors import SettingsError
from fedbus.evaluation.predict import predict
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import set_state
from fedbus.settings.schema import Study
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from simulations.arm import Arm, list_arms
from simulations.scoring import score_arm, score_held_out


@pytest.fixture
def leaky(tiny_study: Study, tmp_path: Path) -> tuple[Study, dict[str, Site], Arm]:
    study = tiny_study.model_copy(update={"split": "images", "arms": ("centralised",)})
    return study, prepare_sites(study, tmp_path), trained(study, tmp_path)


def trained(study: Study, out: Path, classes: list[int] | None = None) -> Arm:
    """An arm whose kept weights are random, and its last ones others."""
    (arm,) = list_arms(study, out)
    for seed, which in enumerate(("best", "final")):
        arm.folder.save_weights(which, start_state(study.model, "none", seed))
    arm.folder.finish({"classes": classes})
    return arm


def expected(study: Study, site: Site, part: str, present: list[int] | None = None) -> np.ndarray:
    model = place_model(study.model, torch.device("cpu"))
    set_state(model, start_state(study.model, "none", 0))
    return predict(model, site.pixels[site.parts[part]], study, None if present is None else torch.tensor(present))


def test_each_part_is_scored_by_the_kept_weights_into_its_own_file(leaky):
    study, sites, arm = leaky
    for score, part, file in (
        (score_arm, "test", "predictions.csv"),
        (score_held_out, "held-out", "held-out.csv"),
    ):
        found = score(arm, study, sites)
        assert (arm.folder.path / file).is_file()
        for name, site in sites.items():
            mine = found.select(name)
            assert mine.paths.tolist() == site.paths[site.parts[part]].tolist()
            np.testing.assert_array_equal(mine.labels, site.labels[site.parts[part]])
            np.testing.assert_allclose(mine.probabilities, expected(study, site, part), atol=1e-6)


def test_classes_that_the_arm_may_not_predict_get_nothing(tiny_study, tiny_sites, tmp_path):
    study = tiny_study.model_copy(update={"arms": ("centralised",)})
    found = score_arm(trained(study, tmp_path, classes=[0, 1]), study, tiny_sites)
    assert not found.probabilities[:, 2].any()
    north = expected(study, tiny_sites["north"], "test", [0, 1])
    np.testing.assert_allclose(found.select("north").probabilities, north, atol=1e-6)


def test_what_was_scored_is_read_back_without_the_weights(leaky):
    study, sites, arm = leaky
    before = score_arm(arm, study, sites), score_held_out(arm, study, sites)
    (arm.folder.path / "best.safetensors").unlink()
    after = score_arm(arm, study, sites), score_held_out(arm, study, sites)
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.probabilities, two.probabilities)
        np.testing.assert_array_equal(one.paths, two.paths)


def test_sites_without_held_out_rows_are_named(tiny_study, tiny_sites, tmp_path):
    study = tiny_study.model_copy(update={"arms": ("centralised",)})
    with pytest.raises(SettingsError, match=r"split = groups.*north, south.*split=images"):
        score_held_out(trained(study, tmp_path), study, tiny_sites)
    assert not list(tmp_path.rglob("*.csv"))
