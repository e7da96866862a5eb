"""The mean of the sites' own AUCs within folds, against loops over scikit-learn."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from fedbus.errors import RunError
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.evaluate import differences, evaluate
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import ALL, MEAN, measure_places
from fedbus.seeds import derive_seed

SITES = ("bra", "busi")
DRAWS, SEED = 40, 5


def fold_predictions(fold: int, seed: int, skill: float = 0.4, count: int = 60) -> Predictions:
    """Rows of two sites, three rows a group, one site without normals; the rows depend only on the fold."""
    fixed, random = np.random.default_rng(100 + fold), np.random.default_rng(1000 * fold + seed)
    sites = np.where(np.arange(count) < count // 2, *SITES)
    labels = fixed.integers(3, size=count)
    labels[sites == "bra"] %= 2
    probabilities = random.dirichlet([1, 1, 1], size=count)
    probabilities[np.arange(count), labels] += skill
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"{site}/fold-{fold}-{row // 3}" for row, site in enumerate(sites)]
    return Predictions(labels, probabilities, groups, sites, [f"{fold}-{row}.png" for row in range(count)])


def arm(skill: float = 0.4, folds: int = 3, seeds: int = 2) -> list[list[Predictions]]:
    return [[fold_predictions(fold, seed, skill) for seed in range(seeds)] for fold in range(folds)]


def macro_auc(run: Predictions, rows: np.ndarray) -> float:
    """One class against the rest, or for two classes one against the other."""
    labels, probabilities = run.labels[rows], run.probabilities[rows]
    present = np.unique(labels)
    if len(present) < 2:
        return np.nan
    if set(run.labels.tolist()) == {0, 1}:
        first, second = probabilities[:, 0], probabilities[:, 1]
        return float(roc_auc_score(labels == 1, second / (first + second)))
    return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in present]))


def repeated(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(weights)), weights)


def by_loops(folds: list[list[Predictions]], site: str | None) -> tuple[float, np.ndarray]:
    """Value and draws [B] of the AUC at a site, or on all rows: the mean over folds, then over seeds."""
    points, drawn = [], []
    for seed in range(len(folds[0])):
        values, draws = [], []
        for number, runs in enumerate(folds):
            run = runs[seed] if site is None else runs[seed].select(site)
            own = SEED if number == 0 else derive_seed(SEED, "fold", number)
            values.append(macro_auc(run, np.arange(len(run.labels))))
            draws.append([macro_auc(run, repeated(row)) for row in draw_weights(run.groups, run.sites, DRAWS, own)])
        points.append(np.nanmean(values))
        drawn.append(np.nanmean(draws, axis=0))
    return float(np.mean(points)), np.mean(drawn, axis=0)


@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (3, 2)])
def test_every_auc_is_that_of_loops_over_scikit_learn(folds, seeds):
    measured = measure_places(arm(folds=folds, seeds=seeds), SITES, DRAWS, SEED)
    found = {place: by_loops(arm(folds=folds, seeds=seeds), site) for place, site in
             ((ALL, None), *((site, site) for site in SITES))}  # fmt: skip
    found[MEAN] = (
        float(np.mean([found[site][0] for site in SITES])),
        np.mean([found[site][1] for site in SITES], axis=0),
    )
    for place, (value, drawn) in found.items():
        auc = measured[place].summary()["auc"]
        assert auc["value"] == pytest.approx(value, abs=1e-12)
        assert (auc["low"], auc["high"]) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=1e-12)
        assert ("spread" in auc) == (seeds > 1)


def test_differences_are_paired_draw_by_draw():
    ours, theirs = arm(0.5), arm(0.2)
    found = measure_places(ours, SITES, DRAWS, SEED)[MEAN].minus(measure_places(theirs, SITES, DRAWS, SEED)[MEAN])
    (value, drawn), (other, other_drawn) = (
        [np.mean(part, axis=0) for part in zip(*(by_loops(folds, site) for site in SITES), strict=True)]
        for folds in (ours, theirs)
    )
    low, high = np.percentile(drawn - other_drawn, (2.5, 97.5))
    assert found["auc"] == pytest.approx({"value": value - other, "low": low, "high": high}, abs=1e-12)


def test_one_fold_gives_the_figures_of_a_run_bit_for_bit():
    runs = arm(folds=1)[0]
    measured = measure_places([runs], SITES, DRAWS, SEED)
    assert measured[ALL].summary() == evaluate(runs, DRAWS, SEED)
    assert measured["bra"].summary() == evaluate([run.select("bra") for run in runs], DRAWS, SEED)
    others = arm(0.2, folds=1)[0]
    assert measured[ALL].minus(measure_places([others], SITES, DRAWS, SEED)[ALL]) == differences(
        runs, others, DRAWS, SEED
    )


def test_models_of_different_calibration_do_not_lower_the_auc_within_folds():
    """Each fold's model ranks perfectly, but one gives lower probabilities: one ROC curve over both would suffer."""
    labels = np.array([0, 1] * 10)
    folds = []
    for fold, (low, high) in enumerate(((0.1, 0.3), (0.6, 0.9))):
        malignant = np.where(labels == 1, high, low)
        probabilities = np.stack([1 - malignant, malignant, np.zeros(20)], axis=1)
        names = [f"a/{fold}-{row}" for row in range(20)]
        folds.append([Predictions(labels, probabilities, names, ["a"] * 20, names)])
    assert measure_places(folds, ["a"], DRAWS, SEED)[MEAN].summary()["auc"]["value"] == 1


def test_a_fold_without_a_second_class_is_left_out_and_a_site_without_one_has_no_mean():
    folds = arm(folds=2, seeds=1)
    (run,) = folds[1]
    benign = dataclasses.replace(run, labels=np.where(run.sites == "bra", 0, run.labels))
    folds[1] = [benign]
    measured = measure_places(folds, SITES, DRAWS, SEED)
    assert measured["bra"].summary()["auc"] == pytest.approx(
        measure_places(folds[:1], SITES, DRAWS, SEED)["bra"].summary()["auc"]
    )
    never = measure_places(folds[1:], SITES, DRAWS, SEED)
    assert never["bra"].summary()["auc"] is None
    assert never[MEAN].summary()["auc"] is None
    assert never[MEAN].summary()["accuracy"] is not None


def test_accuracy_is_averaged_over_folds_and_sites_and_rows_are_counted():
    folds = arm(seeds=1)
    shown = measure_places(folds, SITES, DRAWS, SEED)
    expected = {
        site: np.mean([accuracy_score(run.select(site).labels, run.select(site).probabilities.argmax(axis=1))
                       for (run,) in folds]) for site in SITES
    }  # fmt: skip
    assert shown["busi"].summary()["accuracy"]["value"] == pytest.approx(expected["busi"])
    assert shown[MEAN].summary()["accuracy"]["value"] == pytest.approx(np.mean(list(expected.values())))
    assert (shown[ALL].summary()["images"], shown[ALL].summary()["groups"]) == (180, 60)
    assert shown[MEAN].summary()["images"] == 180
    assert np.sum(shown[ALL].summary()["confusion"]) == 180


def test_arms_on_other_folds_are_not_compared():
    ours, theirs = (measure_places(arm(folds=folds), SITES, DRAWS, SEED)[ALL] for folds in (2, 3))
    with pytest.raises(RunError, match="different folds"):
        ours.minus(theirs)
    with pytest.raises(RunError, match="no folds"):
        measure_places([], SITES, DRAWS, SEED)
