"""Scoring: the best weights on every site's rows of a split, written once and read back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedbus.errors import SettingsError
from fedbus.evaluation.predict import predict
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import set_state
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from simulations.arm import Arm, list_arms
from simulations.scoring import score_arm, score_held_out


@pytest.fixture
def leaky(two_site_settings: Settings, tmp_path: Path) -> tuple[Settings, dict[str, Site], Arm]:
    settings = two_site_settings.model_copy(update={"split": "images", "arms": ("centralised",)})
    return settings, prepare_sites(settings, tmp_path), trained(settings, tmp_path)


def trained(settings: Settings, out: Path, classes: list[int] | None = None) -> Arm:
    """An arm whose kept weights are random, and its last ones others."""
    (arm,) = list_arms(settings, out)
    for seed, which in enumerate(("best", "final")):
        arm.folder.save_weights(which, start_state(settings.model, "none", seed))
    arm.folder.finish({"classes": classes, "best_round": 1})
    return arm


def expected(settings: Settings, site: Site, split: str, present: list[int] | None = None) -> np.ndarray:
    model = place_model(settings.model, torch.device("cpu"))
    set_state(model, start_state(settings.model, "none", 0))
    return predict(model, site.pixels[site.splits[split]], settings, None if present is None else torch.tensor(present))


def test_each_part_is_scored_by_the_kept_weights_into_its_own_file(leaky):
    settings, sites, arm = leaky
    for score, split, file in (
        (score_arm, "test", "predictions.csv"),
        (score_held_out, "held-out", "held-out.csv"),
    ):
        found = score(arm, settings, sites)
        assert (arm.folder.path / file).is_file()
        for name, site in sites.items():
            mine = found.select(name)
            assert mine.paths.tolist() == site.paths[site.splits[split]].tolist()
            np.testing.assert_array_equal(mine.labels, site.labels[site.splits[split]])
            np.testing.assert_allclose(mine.probabilities, expected(settings, site, split), atol=1e-6)


def test_classes_that_the_arm_may_not_predict_get_nothing(two_site_settings, tiny_sites, tmp_path):
    settings = two_site_settings.model_copy(update={"arms": ("centralised",)})
    found = score_arm(trained(settings, tmp_path, classes=[0, 1]), settings, tiny_sites)
    assert not found.probabilities[:, 2].any()
    north = expected(settings, tiny_sites["north"], "test", [0, 1])
    np.testing.assert_allclose(found.select("north").probabilities, north, atol=1e-6)


def test_what_was_scored_is_read_back_without_the_weights(leaky):
    settings, sites, arm = leaky
    before = score_arm(arm, settings, sites), score_held_out(arm, settings, sites)
    (arm.folder.path / "best.safetensors").unlink()
    after = score_arm(arm, settings, sites), score_held_out(arm, settings, sites)
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.probabilities, two.probabilities)
        np.testing.assert_array_equal(one.paths, two.paths)


def test_sites_without_held_out_rows_are_named(two_site_settings, tiny_sites, tmp_path):
    settings = two_site_settings.model_copy(update={"arms": ("centralised",)})
    with pytest.raises(SettingsError, match=r"split = groups.*north, south.*split=images"):
        score_held_out(trained(settings, tmp_path), settings, tiny_sites)
    assert not list(tmp_path.rglob("*.csv"))
