"""Weighted metrics against scikit-learn, on rows and weights that Hypothesis chooses."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from fedbus.evaluation import metrics

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def weighted_rows(draw, classes=(0, 1, 2)):
    """Labels [N], probabilities [N, 3] with many ties, and weights [N], each class with a weight above 0."""
    count = draw(st.integers(6, 40))
    labels = draw(arrays(np.int64, count, elements=st.sampled_from(classes)))
    odds = draw(arrays(np.int64, (count, 3), elements=st.integers(0, 4))) + 1e-3
    weights = draw(arrays(np.int64, count, elements=st.integers(0, 4)))
    assume(all(weights[labels == c].sum() > 0 for c in classes))
    return labels, odds / odds.sum(axis=1, keepdims=True), weights


@PROPERTY
@given(weighted_rows())
def test_metrics_are_those_of_scikit_learn_with_sample_weights(rows):
    labels, probabilities, weight = rows
    ours = {name: values[0] for name, values in metrics.weighted_metrics(labels, probabilities, weight[None]).items()}
    predicted = probabilities.argmax(axis=1)
    areas = [roc_auc_score(labels == c, probabilities[:, c], sample_weight=weight) for c in range(3)]
    f1 = f1_score(labels, predicted, average="macro", sample_weight=weight, zero_division=0)
    assert ours["accuracy"] == pytest.approx(accuracy_score(labels, predicted, sample_weight=weight), abs=1e-12)
    assert ours["macro_f1"] == pytest.approx(f1, abs=1e-12)
    assert ours["auc"] == pytest.approx(np.mean(areas), abs=1e-12)
    recall = recall_score(labels, predicted, average=None, sample_weight=weight, labels=[0, 1, 2], zero_division=0)
    np.testing.assert_allclose(ours["sensitivity"], recall, atol=1e-12)
    others = [recall_score(labels != c, predicted != c, sample_weight=weight) for c in range(3)]
    np.testing.assert_allclose(ours["specificity"], others, atol=1e-12)
    confusion = metrics.weighted_confusion(labels, predicted, weight[None].astype(float))[0]
    np.testing.assert_array_equal(
        confusion, confusion_matrix(labels, predicted, sample_weight=weight, labels=[0, 1, 2])
    )


@PROPERTY
@given(weighted_rows())
def test_weights_are_repeated_rows(rows):
    labels, probabilities, weight = rows
    repeated = np.repeat(np.arange(len(labels)), weight)
    ours = metrics.weighted_metrics(labels, probabilities, weight[None])
    expected = metrics.weighted_metrics(
        labels[repeated], probabilities[repeated], np.ones((1, len(repeated)), dtype=np.int64)
    )
    for name, values in ours.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-12)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


@PROPERTY
@given(weighted_rows(), st.permutations(range(40)))
def test_the_order_of_rows_has_no_effect(rows, permutation):
    labels, probabilities, weight = rows
    order = [row for row in permutation if row < len(labels)]
    ours = metrics.weighted_metrics(labels, probabilities, weight[None])
    moved = metrics.weighted_metrics(labels[order], probabilities[order], weight[None, order])
    for name, values in ours.items():
        np.testing.assert_allclose(values, moved[name], atol=1e-12)


@pytest.mark.parametrize("classes", [(0, 1), (0, 2), (1, 2)])
def test_the_auc_of_two_classes_is_the_second_against_the_first_by_their_share(classes):
    @PROPERTY
    @given(weighted_rows(classes))
    def check(rows):
        labels, probabilities, weight = rows
        first, second = probabilities[:, classes[0]], probabilities[:, classes[1]]
        expected = roc_auc_score(labels == classes[1], second / (first + second), sample_weight=weight)
        ours = metrics.auc(labels, probabilities, weight[None].astype(float))
        assert ours[0] == pytest.approx(expected, abs=1e-12)

    check()


@PROPERTY
@given(weighted_rows())
def test_a_class_that_vanishes_from_a_draw_is_left_out(rows):
    labels, probabilities, weight = rows
    weight = np.where(labels == 2, 0, weight)
    ours = {name: values[0] for name, values in metrics.weighted_metrics(labels, probabilities, weight[None]).items()}
    predicted = probabilities.argmax(axis=1)
    assert np.isnan(ours["sensitivity"][2])
    assert np.isnan(ours["specificity"][2])
    assert np.isfinite(ours["sensitivity"][:2]).all()
    f1 = f1_score(labels, predicted, labels=[0, 1], average="macro", sample_weight=weight, zero_division=0)
    assert ours["macro_f1"] == pytest.approx(f1, abs=1e-12)
    kept = labels != 2
    areas = [roc_auc_score(labels[kept] == c, probabilities[kept, c], sample_weight=weight[kept]) for c in (0, 1)]
    assert ours["auc"] == pytest.approx(np.mean(areas), abs=1e-12)


@PROPERTY
@given(weighted_rows())
def test_ece_is_a_loop_over_the_fifteen_bins(rows):
    labels, probabilities, weight = rows
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for m in range(15):
        inside = (np.ceil(confidence * 15) == m + 1) & (weight > 0)
        if inside.any():
            share = weight[inside]
            gap = np.average(correct[inside], weights=share) - np.average(confidence[inside], weights=share)
            expected += abs(gap) * share.sum() / weight.sum()
    ours = metrics.ece(labels, probabilities, weight[None].astype(float))
    assert ours[0] == pytest.approx(expected, abs=1e-12)


def test_a_row_with_no_probability_for_either_of_two_classes_counts_as_undecided():
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    # Of four pairs three are in order and one is a tie.
    assert metrics.auc(labels, probabilities, np.ones((1, 4)))[0] == 3.5 / 4


def test_ece_of_a_certain_and_right_model_is_zero_and_of_a_certain_and_wrong_one_is_one():
    weights = np.ones((1, 3))
    assert metrics.ece(np.array([0, 1, 2]), np.eye(3), weights)[0] == 0.0
    assert metrics.ece(np.array([1, 2, 0]), np.eye(3), weights)[0] == 1.0


def test_rows_of_one_class_have_no_auc():
    probabilities = np.random.default_rng(10).dirichlet([1, 1, 1], size=20)
    assert np.isnan(metrics.auc(np.ones(20, dtype=np.int64), probabilities, np.ones((3, 20)))).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    random = np.random.default_rng(11)
    labels, weights = random.integers(3, size=120), random.integers(0, 5, size=(7, 120))
    probabilities = random.dirichlet([1, 1, 1], size=120)
    whole = metrics.weighted_metrics(labels, probabilities, weights)
    monkeypatch.setattr(metrics, "CHUNK_CELLS", 2 * len(labels))
    parts = metrics.weighted_metrics(labels, probabilities, weights)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-15)
