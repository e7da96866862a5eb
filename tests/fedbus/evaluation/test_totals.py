"""Results from sums over sites: equal to those of pooled rows, exact in any order, and refused where impossible."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, roc_auc_score

from fedbus.errors import RunError
from fedbus.evaluation import totals
from fedbus.evaluation.binned_counts import EDGES
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.predictions import Predictions, join
from fedbus.evaluation.site_calibration import measure_site_calibration, pool_calibration
from fedbus.evaluation.site_mean import measure_places
from fedbus.evaluation.site_scores import pool_sites, score_site

DRAWS, SEED = 600, 7
ROWS = {"a": (60, 40, 50), "b": (90, 30, 20), "c": (30, 50, 40), "d": (25, 35, 15)}


def predictions(site, counts, seed=0):
    """Invented predictions, two images per patient."""
    random = np.random.default_rng([seed, ord(site)])
    labels = np.repeat(np.arange(3), counts)
    probabilities = random.dirichlet([1, 1, 1], size=len(labels))
    probabilities[np.arange(len(labels)), labels] += random.uniform(0, 0.9, len(labels))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"{site}/{number // 2}" for number in range(len(labels))]
    return Predictions(labels, probabilities, groups, [site] * len(labels), [f"{n}.png" for n in range(len(labels))])


def measured(rows):
    """What each site measures, and the calibration of all."""
    calibration = calibrate([predictions(site, ROWS[site], seed=1) for site in rows], "sensitivity=0.9")
    scores = {site: score_site(each, DRAWS, SEED) for site, each in rows.items()}
    calibrated = {site: measure_site_calibration(each, calibration, DRAWS, SEED) for site, each in rows.items()}
    return calibration, scores, calibrated


@pytest.fixture(scope="module")
def rows():
    return {site: predictions(site, counts) for site, counts in ROWS.items()}


@pytest.fixture(scope="module")
def sites(rows):
    return measured(rows)


@pytest.fixture(scope="module")
def numbers(sites):
    _, scores, calibrated = sites
    return {site: totals.numbers_of_test(scores[site], calibrated[site]) for site in scores}


@pytest.fixture(scope="module")
def summed(numbers):
    return totals.read_totals(sum(numbers.values()), list(numbers))


def test_scores_of_all_rows_equal_those_of_scikit_learn(rows, summed):
    everywhere = join(list(rows.values()))
    predicted = everywhere.probabilities.argmax(axis=1)
    found = totals.score_totals(summed, DRAWS, SEED)["all"]
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(everywhere.labels, predicted), abs=1e-12)
    expected = f1_score(everywhere.labels, predicted, average="macro")
    assert found["macro_f1"]["value"] == pytest.approx(expected, abs=1e-12)
    assert found["auc"] is found["ece"] is None
    assert found["images"] == len(everywhere.labels)
    assert found["groups"] == len(set(everywhere.groups.tolist()))


def test_intervals_equal_those_from_each_sites_own_record(sites, summed):
    _, scores, _ = sites
    expected, found = pool_sites(scores, DRAWS, SEED), totals.score_totals(summed, DRAWS, SEED)["all"]
    assert found["confusion"] == expected["confusion"]
    for name in ("accuracy", "macro_f1"):
        for end in ("value", "low", "high"):
            assert found[name][end] == pytest.approx(expected[name][end], abs=1e-5)
    for name in ("sensitivity", "specificity"):
        for label, figure in expected[name].items():
            assert found[name][label] == pytest.approx(figure, abs=1e-5)


def test_the_mean_of_sites_is_that_of_a_simulation(rows, summed):
    everywhere, found = join(list(rows.values())), totals.score_totals(summed, DRAWS, SEED)["mean"]
    aucs = [roc_auc_score(each.labels, each.probabilities, multi_class="ovr") for each in rows.values()]
    assert found["auc"]["value"] == pytest.approx(np.mean(aucs), abs=1e-8)
    expected = measure_places([[everywhere]], list(rows), DRAWS, SEED)["mean"].summary()
    assert found.keys() == expected.keys()
    for name in ("auc", "macro_f1", "accuracy"):
        assert found[name]["value"] == pytest.approx(expected[name]["value"], abs=1e-8)
        assert found[name]["low"] == pytest.approx(expected[name]["low"], abs=0.01)
        assert found[name]["high"] == pytest.approx(expected[name]["high"], abs=0.01)


def test_the_mean_is_undefined_if_a_figure_is_at_one_site(rows):
    one_class = {**rows, "d": predictions("d", (30, 0, 0))}
    _, scores, calibrated = measured(one_class)
    numbers = sum(totals.numbers_of_test(scores[site], calibrated[site]) for site in one_class)
    found = totals.score_totals(totals.read_totals(numbers, list(one_class)), DRAWS, SEED)["mean"]
    assert found["auc"] is None
    assert found["accuracy"]["value"] > 0


def test_calibration_equals_that_of_all_rows(rows, sites, summed):
    calibration, _, calibrated = sites
    everywhere = join(list(rows.values()))
    found = totals.calibrate_totals(summed, DRAWS, SEED)
    after = calibration.apply(everywhere.probabilities)
    for when, probabilities in (("before", everywhere.probabilities), ("after", after)):
        brier = brier_score_loss(everywhere.labels, probabilities, labels=[0, 1, 2], scale_by_half=False)
        assert found[when]["brier"]["value"] == pytest.approx(brier, abs=1e-6)
    above, malignant = after[:, 1] >= calibration.threshold, everywhere.labels == 1
    point = found["operating_point"]
    assert point["sensitivity"]["value"] == pytest.approx(above[malignant].mean())
    assert point["specificity"]["value"] == pytest.approx((~above)[~malignant].mean())
    assert point["ppv"]["value"] == pytest.approx(malignant[above].mean())
    threshold = EDGES[5]
    chosen = after[:, 1] >= threshold
    benefit = (chosen & malignant).mean() - (chosen & ~malignant).mean() * threshold / (1 - threshold)
    assert found["decision_curve"]["model"][4] == pytest.approx(benefit)
    expected = pool_calibration(calibrated, DRAWS, SEED)
    for when in ("before", "after"):
        assert found[when]["ece"]["value"] == pytest.approx(expected[when]["ece"]["value"], abs=1e-12)
        for name, bins in expected[when]["reliability"].items():
            assert found[when]["reliability"][name] == pytest.approx(bins, abs=1e-9)
    for name, figure in expected["operating_point"].items():
        assert point[name] == pytest.approx(figure, abs=1e-5)


def test_numbers_add_up_modulo_2_64_in_any_order(numbers):
    """Masks that cancel each other leave the sum; negative covariances are read back as such."""
    random = np.random.default_rng(3)
    masks = random.integers(0, 2**64, size=(len(numbers), totals.NUMBERS_OF_TEST), dtype=np.uint64)
    masks[-1] = -masks[:-1].sum(axis=0, dtype=np.uint64)
    masked = [part.view(np.uint64) + mask for part, mask in zip(numbers.values(), masks, strict=True)]
    found = (masked[2] + masked[0] + masked[3] + masked[1]).view(np.int64)
    assert (found == sum(numbers.values())).all()
    assert (found < 0).any()


def test_totals_survive_a_file(summed):
    read = json.loads(json.dumps(summed))
    assert totals.score_totals(read, DRAWS, SEED) == totals.score_totals(summed, DRAWS, SEED)
    assert totals.calibrate_totals(read, DRAWS, SEED) == totals.calibrate_totals(summed, DRAWS, SEED)


def test_without_a_threshold_there_is_no_operating_point(rows):
    calibration = calibrate([predictions("a", (30, 5, 30), seed=1)], "sensitivity=0.95")
    assert calibration.threshold is None
    numbers = sum(
        totals.numbers_of_test(score_site(each, 20, SEED), measure_site_calibration(each, calibration, 20, SEED))
        for each in rows.values()
    )
    found = totals.calibrate_totals(totals.read_totals(numbers, list(rows)), DRAWS, SEED)
    assert found["operating_point"] is None


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("test-confusion", 1, "predictions"),
        ("test-confusion", -10_000, "test-confusion is negative"),
        ("test-groups", 10_000, "groups"),
        ("test-malignant-bins", 1, "counts by probability"),
        ("test-point-cells", 1, "counts by probability"),
        ("test-reliability-count-after", 1, "counts by confidence"),
        ("test-mean-auc", 2**40, "test-mean-auc is out of range"),
    ],
)
def test_impossible_sums_are_refused(numbers, key, change, words):
    place = 0
    for entry in totals.ENTRIES:
        if entry.key == key:
            break
        place += entry.size
    total = sum(numbers.values())
    total[place] += change
    with pytest.raises(RunError, match=words) as caught:
        totals.read_totals(total, list(numbers))
    assert "do not show which site" in caught.value.remedy


def test_another_number_of_entries_is_refused(numbers):
    with pytest.raises(RunError, match="numbers, not"):
        totals.read_totals(next(iter(numbers.values()))[:-1], ["a"])


def test_a_site_refuses_numbers_that_could_overflow(sites, monkeypatch):
    _, scores, calibrated = sites
    monkeypatch.setattr(totals, "MOST", 2**20)
    with pytest.raises(RunError, match="more test images"):
        totals.numbers_of_test(scores["a"], calibrated["a"])
