"""The membership audit of a comparison: which rows are predicted by which model, and what a memorised run shows."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedbus.evaluation.membership_attack import measure_membership
from fedbus.evaluation.predictions import Predictions
from fedbus.model_folder.apply import open_model
from fedbus.model_folder.read import read_model
from fedbus.reports.comparison.results import read_results
from fedbus.runs.folder import read_settings
from fedbus.settings.load import build_settings
from fedbus.sites.site import open_site
from simulations.arm import list_arms
from simulations.membership import ELSEWHERE, LEAKY, audit_membership
from simulations.scoring import score_arm
from tests.archives import make_class_folders
from tests.trained_run import train_run

SITES = ("north", "south")


@pytest.fixture
def copied(trained_run, tmp_path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def audit(out: Path, **changes: object) -> dict:
    """Audit the arms of a run folder as a resumed comparison does."""
    settings = read_settings(out)
    sites, runs = {name: open_site(out, name) for name in SITES}, {}
    for arm in list_arms(settings, out):
        runs.setdefault(arm.name, []).append((arm, score_arm(arm, settings, sites)))
    return audit_membership(settings.model_copy(update=changes), sites, runs)


@pytest.mark.parametrize("arm", ["centralised", "fedavg", "fedavg-tuned", "local-north"])
def test_the_training_rows_are_predicted_by_the_model_that_is_tested_at_their_site(trained_run, arm):
    folder = trained_run / "arms" / arm
    rows = Predictions.from_csv(folder / "training.csv")
    own = SITES if arm != "local-north" else ("north",)
    assert set(rows.sites.tolist()) == set(own)
    for name in own:
        site, mine = open_site(trained_run, name), rows.select(name)
        train = site.splits["train"]
        assert mine.paths.tolist() == site.paths[train].tolist(), "each row once, unbalanced"
        model = open_model(read_model(folder), name)
        np.testing.assert_allclose(mine.probabilities, model.predict(np.array(site.pixels[train])), atol=1e-5)


def test_blended_arms_are_not_audited_and_small_sites_are_named(trained_run):
    membership = read_results(trained_run)["membership"]
    assert not (trained_run / "arms" / "fedavg-blended" / "training.csv").exists()
    assert membership["arms"] == {}
    assert all("are needed" in membership["sites"][name]["reason"] for name in SITES)
    page = (trained_run / "report.html").read_text()
    assert "What the model gives away about its patients" in page
    assert "north was not attacked" in page
    assert "An attack that fails proves nothing" in page


def test_a_run_of_an_earlier_version_is_audited_when_it_is_resumed(trained_run, copied):
    for path in (copied / "arms").rglob("training.csv"):
        path.unlink()
    assert audit(copied) == read_results(trained_run)["membership"]
    for arm in ("centralised", "fedavg", "fedavg-tuned", "local-north", "local-south"):
        file = f"arms/{arm}/training.csv"
        assert (copied / file).read_bytes() == (trained_run / file).read_bytes()


def test_without_weights_the_audit_says_where_they_are(copied):
    for pattern in ("*.safetensors", "training.csv"):
        for path in (copied / "arms").rglob(pattern):
            path.unlink()
    assert audit(copied) == {"reason": ELSEWHERE, "sites": {}, "arms": {}}


def test_a_split_that_leaks_has_no_non_members(trained_run):
    assert audit(trained_run, split="images")["reason"] == LEAKY


@pytest.fixture(scope="module")
def memorised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose models can only memorise: noise, trained until it is known, with two seeds."""
    root = tmp_path_factory.mktemp("memorised")
    counts = {"benign": 30, "malignant": 30}
    sites = {name: make_class_folders(root / name, counts, seed=seed) for seed, name in enumerate(SITES)}
    settings = build_settings(
        {
            "sites": {name: {"reader": "class-folders", "path": str(path)} for name, path in sites.items()},
            "cache": str(root / "cache"), "image-size": 32, "model": "test_resnet", "weights": "none",
            "batch-size": 8, "bootstrap": 50, "folds": 3, "device": "cpu", "augmentation": False, "keep": "last",
            "learning-rate": 0.005, "label-smoothing": 0.0, "local-epochs": 5,
        },
        "the tests",
    )  # fmt: skip
    return train_run(settings, root / "run", arms=("local",), seeds=(0, 1))


def test_a_model_that_memorised_noise_gives_its_patients_away(memorised):
    membership = read_results(memorised)["membership"]
    assert membership["arms"].keys() == {"local"}, "each site with its own model"
    for name in SITES:
        facts = membership["sites"][name]
        assert facts == {"members": facts["members"], "non_members": 20, "left_out": [], "reason": ""}
        found = membership["arms"]["local"][name]["auc"]
        assert found["low"] > 0.6
        assert "spread" in found, "two seeds"
    page = (memorised / "report.html").read_text()
    assert "the model gives away who took part" in page
    assert "recognises patients" in page


def test_a_model_cannot_tell_the_patients_of_a_site_that_it_never_saw(memorised):
    """The control: under the model of the other site, training and test rows are equally unknown."""
    settings = read_settings(memorised)
    sites = {name: open_site(memorised, name) for name in SITES}
    arm = next(arm for arm in list_arms(settings, memorised) if arm.name == "local-south")
    model = open_model(read_model(arm.folder.path), "south")
    swapped = {}
    for split in ("train", "test"):
        rows = sites["north"].splits[split]
        swapped[split] = Predictions(
            sites["north"].labels[rows], model.predict(np.array(sites["north"].pixels[rows])),
            sites["north"].groups[rows], ["north"] * len(rows), sites["north"].paths[rows],
        )  # fmt: skip
    found = measure_membership({"other": [[(swapped["train"], swapped["test"])]]}, ["north"], 500, 0)
    auc = found["arms"]["other"]["north"]["auc"]
    assert auc["low"] < 0.5 < auc["high"]
