"""The interpolation between masked and plain cross-entropy, at its ends and between them."""

import numpy as np
import pytest

from tests.fedbus.training.missing_classes.cases import (
    LACKING,
    NO_BENIGN,
    NO_NORMAL,
    criterion_of,
    cross_entropy,
    draw_logits,
    probabilities,
    smoothed,
    value_and_gradient,
)

SAMPLERS = pytest.mark.parametrize("sampler", ["none", "class-weights"])


@SAMPLERS
@pytest.mark.parametrize("counts", LACKING)
def test_at_zero_it_is_mask_bit_for_bit(counts, sampler):
    found = []
    for policy in ("softened", "mask"):
        criterion, rows = criterion_of(policy, counts, missing_strength=0.0, sampler=sampler)
        found.append(value_and_gradient(criterion, draw_logits(rows), rows.labels))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


@SAMPLERS
@pytest.mark.parametrize("counts", LACKING)
def test_at_one_it_is_plain_where_labels_are_not_smoothed(counts, sampler):
    found = []
    for policy in ("softened", "plain"):
        criterion, rows = criterion_of(policy, counts, missing_strength=1.0, sampler=sampler, label_smoothing=0.0)
        found.append(value_and_gradient(criterion, draw_logits(rows), rows.labels))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-7)


@SAMPLERS
@pytest.mark.parametrize("counts", LACKING)
def test_at_one_smoothing_spreads_over_the_sites_own_classes(counts, sampler):
    criterion, rows = criterion_of("softened", counts, missing_strength=1.0, sampler=sampler, label_smoothing=0.3)
    logits = draw_logits(rows)
    targets = smoothed(rows.labels, 0.3, rows.present.tolist())
    expected = cross_entropy(probabilities(logits), targets, rows)
    assert value_and_gradient(criterion, logits, rows.labels)[0] == pytest.approx(expected, rel=1e-5)


@SAMPLERS
@pytest.mark.parametrize(("counts", "missing"), [(NO_NORMAL, 2), (NO_BENIGN, 0)])
def test_the_missing_logit_gets_the_strength_times_the_gradient_of_plain(counts, missing, sampler):
    gradients = {}
    for policy, strength in (("softened", 0.25), ("plain", 0.25), ("mask", 0.25)):
        criterion, rows = criterion_of(policy, counts, missing_strength=strength, sampler=sampler, label_smoothing=0.0)
        gradients[policy] = value_and_gradient(criterion, draw_logits(rows), rows.labels)[1]
    np.testing.assert_allclose(gradients["softened"][:, missing], 0.25 * gradients["plain"][:, missing], atol=1e-7)
    between = 0.75 * gradients["mask"] + 0.25 * gradients["plain"]
    np.testing.assert_allclose(gradients["softened"], between, atol=1e-7)
