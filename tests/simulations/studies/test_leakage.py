"""What a leaky split claims and what is true: computed independently from the files of a tiny finished run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.measured import COMPARED
from fedbus.evaluation.predictions import Predictions
from fedbus.models.start import start_state
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.training.rows import site_rows
from simulations.arm import Arm, list_arms
from simulations.local_training import LocalTraining
from simulations.studies.leakage import difference, leakage_of, leaked_rows
from tests.tiny import noise_site

CPU = torch.device("cpu")
Run = tuple[Settings, Path, dict[str, Site], list[Arm]]


def run_of(settings: Settings, out: Path, **changes: object) -> Run:
    """Two seeds of `local-north`, trained for one round under a split."""
    settings = settings.model_copy(update={"arms": ("local",), "seeds": (0, 1), "rounds": 1, **changes})
    sites = prepare_sites(settings, out)
    arms = [arm for arm in list_arms(settings, out) if arm.name == "local-north"]
    for arm in arms:
        rows = site_rows(sites["north"], settings, arm.seed, CPU)
        start = start_state(settings.model, "none", arm.seed)
        LocalTraining(settings, arm.seed, rows, [sites["north"]], 3, start).run(arm.folder)
    return settings, out, sites, arms


@pytest.fixture(scope="module", params=["images", "balanced-images"])
def run(request, two_site_settings, tmp_path_factory) -> Run:
    return run_of(two_site_settings, tmp_path_factory.mktemp("run"), split=request.param)


def answers(arm: Arm, file: str, place: str) -> tuple[list[str], list[str]]:
    with (arm.folder.path / file).open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if place in ("all", row["site"])]
    return [row["label"] for row in rows], [max(CLASSES, key=lambda name: float(row[name])) for row in rows]


def test_claim_truth_and_difference_are_those_of_the_predictions(run):
    settings, out, sites, arms = run
    found = leakage_of(settings, out, sites, arms)
    assert json.loads(json.dumps(found)) == found
    assert (found["split"], found["arms"].keys()) == (settings.split, {"local-north"})
    leakage = found["arms"]["local-north"]
    for place in ("north", "south", "all"):
        expected = {}
        for side, file in (("claim", "predictions.csv"), ("truth", "held-out.csv")):
            pairs = [answers(arm, file, place) for arm in arms]
            expected[side] = np.mean([accuracy_score(*pair) for pair in pairs])
            assert leakage[side][place]["accuracy"]["value"] == pytest.approx(expected[side])
            assert leakage[side][place]["images"] == len(pairs[0][0])
            labels = sorted(set(pairs[0][0]))
            f1 = np.mean([f1_score(*pair, labels=labels, average="macro", zero_division=0) for pair in pairs])
            assert leakage[side][place]["macro_f1"]["value"] == pytest.approx(f1)
        gap = leakage["difference"][place]
        assert gap.keys() == set(COMPARED)
        assert gap["accuracy"]["value"] == pytest.approx(expected["claim"] - expected["truth"])
        for figure in gap.values():
            assert -1 <= figure["low"] <= figure["high"] <= 1


def test_leaked_rows_are_those_that_the_split_file_shows(run):
    settings, out, sites, arms = run
    for name, counts in leakage_of(settings, out, sites, arms)["leaked"].items():
        with (out / "splits" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        train = [row for row in rows if row["split"] == "train"]
        test = [row for row in rows if row["split"] == "test"]
        same = sum(row["path"] in {other["path"] for other in train} for row in test)
        group = sum(row["group"] in {other["group"] for other in train} for row in test)
        assert counts == {"test_rows": len(test), "copies": same, "same_group": group}
        assert (same > 0) == (settings.split == "balanced-images")
        assert group >= same


def test_no_group_of_the_truth_was_trained_on(run):
    _, _, sites, arms = run
    truth = Predictions.from_csv(arms[0].folder.path / "held-out.csv")
    known = {f"{name}/{site.groups[row]}" for name, site in sites.items() for row in site.splits["train"]}
    assert not known & set(truth.groups.tolist())


def test_identical_images_count_as_copies_once_per_repeat():
    site = noise_site()
    parts = {**site.splits, "test": site.splits["test"][[0, 0, 1, 2]]}
    site.pixels[parts["test"][1]] = site.pixels[site.splits["train"][0]]
    site.groups[parts["test"][2]] = site.groups[site.splits["train"][3]]
    found = leaked_rows(Site(site.name, site.pixels, site.labels, site.groups, site.paths, parts))
    assert found == {"test_rows": 4, "copies": 2, "same_group": 1}


def predictions(right: int, count: int, name: str) -> Predictions:
    """`count` benign and malignant rows in turn, each a group, of which the first `right` are answered well."""
    labels = np.arange(count) % 2
    answered = np.where(np.arange(count) < right, labels, 1 - labels)
    names = np.array([f"{name}/{i}" for i in range(count)])
    return Predictions(labels, np.eye(3)[answered], names, np.array(["north"] * count), names)


def test_the_interval_of_the_difference_is_that_of_two_independent_samples():
    claim, truth = predictions(160, 200, "claim"), predictions(180, 300, "truth")
    figure = difference([claim], [truth], 4000, 0)["accuracy"]
    spread = np.sqrt(0.8 * 0.2 / 200 + 0.6 * 0.4 / 300)
    assert figure["value"] == pytest.approx(0.2)
    assert figure["low"] == pytest.approx(0.2 - 1.96 * spread, abs=0.01)
    assert figure["high"] == pytest.approx(0.2 + 1.96 * spread, abs=0.01)
    itself = difference([claim], [claim], 4000, 0)["accuracy"]  # equal draws of each would give no width
    assert itself["high"] - itself["low"] == pytest.approx(2 * 1.96 * np.sqrt(2 * 0.16 / 200), abs=0.01)


def test_repeats_of_one_group_widen_the_interval_as_one():
    claim, truth = predictions(40, 50, "claim"), predictions(60, 100, "truth")
    copies = np.repeat(np.arange(50), 4)
    columns = (claim.labels, claim.probabilities, claim.groups, claim.sites, claim.paths)
    repeated = Predictions(*(column[copies] for column in columns))
    one, four = (difference([side], [truth], 500, 0)["accuracy"] for side in (claim, repeated))
    assert four == pytest.approx(one)


def test_a_split_by_group_has_nothing_to_measure(two_site_settings, tiny_sites, tmp_path):
    with pytest.raises(RunError, match=rf"{tmp_path} was split by group.*split=images"):
        leakage_of(two_site_settings, tmp_path, tiny_sites, [])


def test_an_arm_that_is_not_finished_is_named(run, tmp_path):
    settings, out, sites, _ = run
    with pytest.raises(RunError, match=r"local-north.* is not finished"):
        leakage_of(settings, out, sites, list_arms(settings, tmp_path))
