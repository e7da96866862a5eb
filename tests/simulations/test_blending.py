"""Blended arms: no training, each row by the own model of its site and by the shared one."""

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import RunError, SettingsError
from fedbus.evaluation.blend import blend
from fedbus.evaluation.predictions import Predictions, join
from fedbus.settings.load import build_settings
from fedbus.tracking.tracker import Tracker
from simulations.arm import list_arms
from simulations.blending import finish_blended
from simulations.scoring import score_arm
from simulations.train_arms import run_arms
from tests.tiny import noise_site, tiny_settings

SITES = {"north": noise_site("north", seed=1), "south": noise_site("south", (12, 11, 0), seed=2)}
SOURCES = {name: {"reader": "class-folders", "path": f"/{name}"} for name in SITES}


def random_predictions(seed: int, site: str) -> Predictions:
    random, rows = np.random.default_rng(seed), SITES[site].splits["test"]
    probabilities = random.dirichlet([1, 1, 1], len(rows))
    probabilities[0] = [1, 0, 0]  # a class that a model may not predict
    names = [f"{site}/{row}" for row in rows]
    return Predictions(SITES[site].labels[rows], probabilities, names, [site] * len(rows), names)


def by_hand(own: np.ndarray, shared: np.ndarray) -> np.ndarray:
    found = np.empty_like(own)
    for row in range(len(own)):
        products = [np.sqrt(max(own[row, c], 1e-12) * max(shared[row, c], 1e-12)) for c in range(len(CLASSES))]
        found[row] = np.array(products) / sum(products)
    return found


@pytest.fixture
def scored(tmp_path):
    """Arms that are trained and scored, but for the blended one."""
    settings = tiny_settings(arms=("local", "fedavg", "fedavg-blended"), sites=SOURCES)
    arms = {arm.name: arm for arm in list_arms(settings, tmp_path)}
    for number, name in enumerate(("local-north", "local-south", "fedavg")):
        found = join([random_predictions(10 * number + place, site) for place, site in enumerate(SITES)])
        arms[name].folder.finish({"steps": 3 + number, "seconds": 2.0, "best_round": number, "classes": None})
        found.to_csv(arms[name].folder.path / "predictions.csv")
    return settings, arms


def test_a_blend_is_the_normalised_geometric_mean():
    own, shared = random_predictions(0, "north"), random_predictions(1, "north")
    found = blend(own, shared)
    np.testing.assert_allclose(found.probabilities, by_hand(own.probabilities, shared.probabilities), rtol=1e-12)
    np.testing.assert_array_equal(found.paths, own.paths)
    with pytest.raises(RunError, match="differ"):
        blend(own, random_predictions(1, "south"))


def test_each_row_is_blended_with_the_own_model_of_its_site(scored):
    settings, arms = scored
    found = score_arm(arms["fedavg-blended"], settings, SITES)
    shared = score_arm(arms["fedavg"], settings, SITES)
    for site in SITES:
        own = score_arm(arms[f"local-{site}"], settings, SITES).select(site)
        expected = by_hand(own.probabilities, shared.select(site).probabilities)
        np.testing.assert_allclose(found.select(site).probabilities, expected, rtol=1e-12)
    assert (arms["fedavg-blended"].folder.path / "predictions.csv").is_file()


def test_a_blended_arm_is_finished_without_training_and_counts_the_work_of_its_parts(scored):
    settings, arms = scored
    run_arms(settings, arms["fedavg"].out, SITES, {0: {}}, progress=None, tracker=Tracker(settings))
    assert arms["fedavg-blended"].folder.read_facts() == {"steps": 3 + 4 + 5, "seconds": 6.0, "best_round": 2}
    assert not list(arms["fedavg-blended"].folder.path.glob("*.safetensors"))
    finish_blended(arms["fedavg-blended"], settings)


@pytest.mark.parametrize(
    ("arms", "complaint"),
    [
        (["fedavg-blended"], "fedavg-blended blends fedavg with local; add local and fedavg to arms"),
        (["local", "centralised-blended"], "add centralised to arms"),
        (["fedavg", "fedavg-blended"], "add local to arms"),
        (["local", "local-blended"], "unknown arm 'local-blended'"),
    ],
)
def test_a_blended_arm_needs_both_of_its_parts(arms, complaint):
    with pytest.raises(SettingsError, match=complaint):
        build_settings({"arms": arms}, "the tests")
    known = ["local", "centralised", "fedavg", "centralised-blended", "fedavg-blended"]
    assert build_settings({"arms": known}, "the tests").federated_arms == ("fedavg",)
