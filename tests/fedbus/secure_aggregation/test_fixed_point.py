"""Updates in fixed point: nothing overflows, nothing is clipped, and the mean is within half a step per site."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import OutOfRangeError, RunError
from fedbus.secure_aggregation.fixed_point import STEPS, decode_mean, encode_update, step_of, tensor_ranges
from tests.fedbus.secure_aggregation.session_parties import PROPERTY

FLOAT = np.float32


def arrays(*values: float) -> dict[str, np.ndarray]:
    return {"layer.weight": np.array(values, FLOAT)}


def test_a_range_is_a_multiple_of_the_largest_value_and_at_least_of_one() -> None:
    sent = {"large": np.array([[2.0, -8.0]], FLOAT), "small": np.array([0.01], FLOAT), "empty": np.zeros(0, FLOAT)}
    assert tensor_ranges(sent, 4.0) == {"large": 32.0, "small": 4.0, "empty": 4.0}


@settings(PROPERTY, max_examples=60)
@given(st.integers(1, 12), st.integers(0, 2**32), st.floats(0.5, 100))
def test_the_mean_is_the_exact_one_within_half_a_step_per_site(number: int, seed: int, update_range: float) -> None:
    random = np.random.default_rng(seed)
    base = {"b": random.normal(0, 3, (3, 2)).astype(FLOAT), "a": random.normal(0, 1, 4).astype(FLOAT)}
    ranges = tensor_ranges(base, update_range)
    weights = random.integers(1, 1000, number)
    total_weight = int(weights.sum()) + int(random.integers(0, 500))  # as if more sites were away
    updates = [
        {
            key: base[key] + random.uniform(-0.99, 0.99, base[key].shape).astype(FLOAT) * FLOAT(ranges[key])
            for key in base
        }
        for _ in range(number)
    ]
    encoded = [encode_update(u, base, ranges, w / total_weight) for u, w in zip(updates, weights, strict=True)]
    shares = sum(weights / total_weight)
    mean = decode_mean(np.sum(encoded, axis=0, dtype=np.uint32), base, ranges, shares)
    for key in base:
        for place in np.ndindex(base[key].shape):
            exact = sum(
                Fraction(int(w)) * Fraction(float(u[key][place])) for w, u in zip(weights, updates, strict=True)
            )
            exact /= int(weights.sum())
            found = float(mean[key][place])
            bound = number / 2 * step_of(ranges[key]) / float(shares) + abs(float(np.spacing(FLOAT(found))))
            assert abs(found - float(exact)) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_overflows_at_a_hundred_sites_with_values_at_the_ends_of_the_range(sign: int) -> None:
    base = arrays(0.0, 0.5)
    ranges = tensor_ranges(base, 4.0)
    update = arrays(sign * 4.0, 0.5 + sign * 4.0)
    weights = np.random.default_rng(0).integers(1, 1000, 100)
    total, exact = np.zeros(2, np.uint32), np.zeros(2, np.int64)
    for weight in weights:
        encoded = encode_update(update, base, ranges, weight / weights.sum())
        total += encoded
        exact += encoded.view(np.int32)
    assert (total.view(np.int32) == exact).all()  # as without a modulus
    assert (np.abs(exact) <= STEPS + 50).all()
    mean = decode_mean(total, base, ranges, sum(weights / weights.sum()))["layer.weight"]
    assert mean == pytest.approx(update["layer.weight"], abs=100 * step_of(4.0))


def test_an_encoded_value_is_the_nearest_number_of_steps() -> None:
    base, ranges = arrays(1.0, 1.0, 1.0), {"layer.weight": 4.0}
    encoded = encode_update(arrays(1.5, 1.0, 0.25), base, ranges, 0.3)
    exact = [round(Fraction(0.3) * Fraction(difference) * STEPS / 4) for difference in (0.5, 0.0, -0.75)]
    assert [int(value) for value in encoded.view(np.int32)] == exact


def test_a_variance_that_is_summed_itself_never_becomes_negative() -> None:
    base, ranges = {"running_var": np.zeros(2, FLOAT)}, {"running_var": 4.0}
    total = np.zeros(2, np.uint32)
    for variance in (0.0, 1e-12, 3.0):
        total += encode_update({"running_var": np.array([variance, 0.0], FLOAT)}, base, ranges, 1 / 3)
    mean = decode_mean(total, base, ranges, 1.0)["running_var"]
    assert (mean >= 0).all()
    assert mean == pytest.approx([1.0, 0.0], abs=1e-8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (4.001, "layer.weight changes by 4.001, but at most 4"),
        (-5.0, "layer.weight changes by -5"),
        (np.nan, "layer.weight is not finite"),
        (np.inf, "layer.weight is not finite"),
        (-np.inf, "layer.weight is not finite"),
    ],
)
def test_a_site_refuses_a_value_out_of_range_by_the_name_of_its_tensor(value: float, message: str) -> None:
    base = arrays(*[0.0] * 70_000)  # more than one block
    update = arrays(*[0.0] * 69_999, value)
    with pytest.raises(RunError) as error:
        encode_update(update, base, tensor_ranges(base, 4.0), 0.5)
    assert message in error.value.problem
    assert isinstance(error.value, OutOfRangeError) == ("update-range" in error.value.remedy) == ("changes" in message)


def test_a_value_at_the_end_of_the_range_is_not_out_of_range() -> None:
    assert encode_update(arrays(4.0), arrays(0.0), {"layer.weight": 4.0}, 1.0).view(np.int32)[0] == STEPS


def test_updates_and_sums_of_another_shape_are_refused() -> None:
    base, ranges = arrays(0.0, 0.0), {"layer.weight": 4.0}
    for update in ({}, arrays(0.0), {"layer.weight": np.zeros((2, 1), FLOAT)}):
        with pytest.raises(RunError, match=r"layer\.weight"):
            encode_update(update, base, ranges, 0.5)
    for total, shares in ((np.zeros(3, np.uint32), 1.0), (np.zeros(2, np.uint64), 1.0), (np.zeros(2, np.uint32), 0.0)):
        with pytest.raises(RunError, match="another size"):
            decode_mean(total, base, ranges, shares)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(RunError, match="share"):
            encode_update(base, base, ranges, share)


def test_a_model_with_values_that_are_not_finite_has_no_range() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(RunError, match=r"layer\.weight that is not finite"):
            tensor_ranges(arrays(0.0, value), 4.0)
