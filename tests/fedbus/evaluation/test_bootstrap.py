"""Weighted metrics against scikit-learn, draws and intervals against what they must satisfy."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from fedbus.errors import SettingsError
from fedbus.evaluation import bootstrap, metrics


def random_rows(seed, count=120, classes=(0, 1, 2), decimals=2):
    """Labels, probabilities with many ties, and weights of which a fifth is 0."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, size=count)
    probabilities = random.dirichlet([1, 1, 1], size=count)
    probabilities[np.arange(count), labels] += 0.4
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), decimals)
    probabilities[:, 2] = 1 - probabilities[:, 0] - probabilities[:, 1]
    return labels, np.clip(probabilities, 0, 1), random.integers(0, 5, size=(7, count))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("decimals", [1, 2, 15])
def test_metrics_equal_those_of_scikit_learn_with_sample_weights(seed, decimals):
    labels, probabilities, weights = random_rows(seed, decimals=decimals)
    ours = metrics.weighted_metrics(labels, probabilities, weights)
    predicted = probabilities.argmax(axis=1)
    for draw, weight in enumerate(weights):
        expected = {
            "accuracy": accuracy_score(labels, predicted, sample_weight=weight),
            "macro_f1": f1_score(labels, predicted, average="macro", sample_weight=weight),
            "auc": np.mean([roc_auc_score(labels == c, probabilities[:, c], sample_weight=weight) for c in range(3)]),
        }
        for name, value in expected.items():
            assert ours[name][draw] == pytest.approx(value, abs=1e-12)
        recall = recall_score(labels, predicted, average=None, sample_weight=weight)
        np.testing.assert_allclose(ours["sensitivity"][draw], recall, atol=1e-12)
        for c in range(3):
            others = recall_score(labels != c, predicted != c, sample_weight=weight)
            assert ours["specificity"][draw, c] == pytest.approx(others, abs=1e-12)


def test_three_class_auc_is_scikit_learns_one_vs_rest_macro():
    labels, probabilities, _ = random_rows(4)
    ours = metrics.auc(labels, probabilities, np.ones((1, len(labels))))
    assert ours[0] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-12)


@pytest.mark.parametrize("classes", [(0, 1), (0, 2), (1, 2)])
def test_two_class_auc_is_second_against_first_by_their_share(classes):
    labels, probabilities, weights = random_rows(5, classes=classes, decimals=15)
    first, second = probabilities[:, classes[0]], probabilities[:, classes[1]]
    ours = metrics.auc(labels, probabilities, weights.astype(float))
    for draw, weight in enumerate(weights):
        expected = roc_auc_score(labels == classes[1], second / (first + second), sample_weight=weight)
        assert ours[draw] == pytest.approx(expected, abs=1e-12)


def test_a_row_with_no_probability_for_either_of_two_classes_counts_as_undecided():
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    # Of four pairs three are in order and one is a tie.
    assert metrics.auc(labels, probabilities, np.ones((1, 4)))[0] == 3.5 / 4


def test_weighted_confusion_equals_scikit_learns():
    labels, probabilities, weights = random_rows(6)
    predicted = probabilities.argmax(axis=1)
    ours = metrics.weighted_confusion(labels, predicted, weights.astype(float))
    for draw, weight in enumerate(weights):
        np.testing.assert_array_equal(ours[draw], confusion_matrix(labels, predicted, sample_weight=weight))


def test_ece_equals_a_loop_over_the_fifteen_bins():
    labels, probabilities, weights = random_rows(7, decimals=15)
    ours = metrics.ece(labels, probabilities, weights.astype(float))
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    for draw, weight in enumerate(weights):
        expected = 0.0
        for m in range(15):
            inside = (confidence > m / 15) & (confidence <= (m + 1) / 15) & (weight > 0)
            if inside.any():
                share = weight[inside]
                gap = np.average(correct[inside], weights=share) - np.average(confidence[inside], weights=share)
                expected += abs(gap) * share.sum() / weight.sum()
        assert ours[draw] == pytest.approx(expected, abs=1e-12)


def test_ece_of_a_certain_and_right_model_is_zero_and_of_a_certain_and_wrong_one_is_one():
    weights = np.ones((1, 3))
    assert metrics.ece(np.array([0, 1, 2]), np.eye(3), weights)[0] == 0.0
    assert metrics.ece(np.array([1, 2, 0]), np.eye(3), weights)[0] == 1.0


def test_weights_stand_for_repeated_rows():
    labels, probabilities, weights = random_rows(8)
    ours = metrics.weighted_metrics(labels, probabilities, weights)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(labels)), weight)
        repeated = metrics.weighted_metrics(labels[rows], probabilities[rows], np.ones((1, len(rows)), int))
        for name in ours:
            np.testing.assert_allclose(ours[name][draw], repeated[name][0], atol=1e-12)


def test_a_class_that_vanished_from_a_draw_is_left_out():
    labels, probabilities, _ = random_rows(9)
    weights = (labels != 2).astype(int)[None]
    ours = metrics.weighted_metrics(labels, probabilities, weights)
    kept = labels != 2
    predicted = probabilities.argmax(axis=1)[kept]
    assert np.isnan(ours["sensitivity"][0, 2])
    assert np.isnan(ours["specificity"][0, 2])
    assert np.isfinite(ours["sensitivity"][0, :2]).all()
    f1 = f1_score(labels[kept], predicted, labels=[0, 1], average="macro")
    assert ours["macro_f1"][0] == pytest.approx(f1, abs=1e-12)
    areas = [roc_auc_score(labels[kept] == c, probabilities[kept, c]) for c in (0, 1)]
    assert ours["auc"][0] == pytest.approx(np.mean(areas), abs=1e-12)


def test_only_one_class_has_no_auc():
    labels, probabilities, weights = random_rows(10, classes=(1,))
    assert np.isnan(metrics.auc(labels, probabilities, weights.astype(float))).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    labels, probabilities, weights = random_rows(11)
    whole = metrics.weighted_metrics(labels, probabilities, weights)
    monkeypatch.setattr(metrics, "CHUNK_CELLS", 2 * len(labels))
    parts = metrics.weighted_metrics(labels, probabilities, weights)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-15)


SITES = np.array(["a"] * 30 + ["b"] * 20)
GROUPS = np.array([f"a/{i // 3}" for i in range(30)] + [f"b/{i // 2}" for i in range(20)])


def test_draws_take_whole_groups_and_as_many_as_the_site_has():
    weights = bootstrap.draw_weights(GROUPS, SITES, 2500, seed=3)
    assert weights.shape == (2500, 50)
    for group in set(GROUPS):
        members = weights[:, group == GROUPS]
        assert (members == members[:, :1]).all()
    assert (weights[:, 0:30:3].sum(axis=1) == 10).all()
    assert (weights[:, 30::2].sum(axis=1) == 10).all()
    # A count is binomial (10, 1/10): mean 1, variance 0.9.
    assert weights.mean() == pytest.approx(1.0, abs=0.02)
    assert weights[:, 0].var() == pytest.approx(0.9, abs=0.1)


def test_draws_depend_on_names_and_seed_but_not_on_order_or_other_sites():
    weights = bootstrap.draw_weights(GROUPS, SITES, 50, seed=3)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(bootstrap.draw_weights(GROUPS[order], SITES[order], 50, 3), weights[:, order])
    alone = SITES == "b"
    np.testing.assert_array_equal(bootstrap.draw_weights(GROUPS[alone], SITES[alone], 50, 3), weights[:, alone])
    assert (bootstrap.draw_weights(GROUPS, SITES, 50, seed=4) != weights).any()


def test_no_draws_are_refused():
    with pytest.raises(SettingsError, match="0 bootstrap draws"):
        bootstrap.draw_weights(GROUPS, SITES, 0, seed=1)


def test_interval_is_that_of_the_percentiles_and_ignores_undefined_draws():
    assert bootstrap.interval(np.arange(1001.0)) == (25.0, 975.0)
    assert bootstrap.interval(np.append(np.arange(1001.0), np.nan)) == (25.0, 975.0)


def test_group_intervals_cover_and_row_intervals_do_not():
    """Four images a patient, all right or all wrong together: accuracy is a mean of 50, not of 200."""
    random = np.random.default_rng(12)
    sites = np.full(200, "a")
    patients, images = np.repeat(np.arange(50), 4).astype(str), np.arange(200).astype(str)
    covered = {"patients": 0, "images": 0}
    widths = {"patients": 0.0, "images": 0.0}
    for repetition in range(200):
        right = np.repeat(random.random(50) < 0.7, 4).astype(float)
        for name, groups in (("patients", patients), ("images", images)):
            weights = bootstrap.draw_weights(groups, sites, 400, repetition)
            low, high = bootstrap.interval(weights @ right / weights.sum(axis=1))
            covered[name] += low <= 0.7 <= high
            widths[name] += high - low
    assert 0.88 <= covered["patients"] / 200 <= 0.99
    assert covered["images"] / 200 < 0.75
    assert widths["patients"] == pytest.approx(2 * widths["images"], rel=0.05)
