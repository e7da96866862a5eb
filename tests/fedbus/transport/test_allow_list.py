"""The list of what may leave a site: replies of sites pass, and anything else is stopped and named."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.binned_counts import count_bins
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_calibration import measure_site_calibration
from fedbus.evaluation.site_scores import score_site
from fedbus.evaluation.temperature import likelihood_sums
from fedbus.evaluation.validation import Score
from fedbus.text import plain_text
from fedbus.transport.allow_list import (
    BUDGET,
    CALIBRATION,
    REGISTRATION,
    REPORT,
    TEST_REPORT,
    check_registration,
    check_reply,
)
from fedbus.transport.messages import Registration
from fedbus.transport.report import Report
from tests.fedbus.evaluation.calibration_cases import overconfident

LAYOUT = {"conv.weight": (4, 3, 3, 3), "fc.bias": (3,), "fc.weight": (3, 4)}
FLAT_SIZE = 4 * 3 * 3 * 3 + 3 + 3 * 4


def registration() -> tuple[dict, dict]:
    splits = {"train": (12, 0, 4), "validation": (3, 0, 1), "test": (5, 0, 2)}
    return Registration("north", CLASSES, 32, splits, (12, 0, 12), groups=20, patients=18, dropped=2).to_records()


def answer() -> dict:
    return Report(
        12.0, Score(np.arange(9).reshape(3, 3), np.array([1.0, 2.0, 0.5])), loss=0.7, steps=9, seconds=1.25
    ).to_metrics()


def test_answer() -> dict:
    """The last reply of a deployed site, with its scores on the test rows."""
    labels = np.repeat(np.arange(3), 6)
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], len(labels))
    groups, paths = [f"north/p{i // 2}" for i in range(18)], [f"{i}.png" for i in range(18)]
    test = score_site(Predictions(labels, probabilities, groups, ["north"] * 18, paths), 20, 0)
    return Report(
        18.0, Score(np.arange(9).reshape(3, 3), np.array([1.0, 2.0, 0.5])), test=test, batch_norm="own"
    ).to_metrics()


def calibration_answer() -> dict:
    """All that a deployed site replies for and about the calibration, which it sends in three replies."""
    rows = overconfident(18, per_group=2)
    fitted = Calibration.from_counts(2.0, count_bins(rows.labels, rows.probabilities[:, 1]), "youden")
    return Report(
        18.0,
        Score(np.arange(9).reshape(3, 3), np.array([1.0, 2.0, 0.5])),
        calibrated=measure_site_calibration(rows, fitted, 20, 0),
        likelihoods=likelihood_sums(rows.labels, rows.probabilities),
        bins=fitted.counts,
    ).to_metrics()


test_answer.__test__ = False


def budget_answer() -> dict:
    """The reply of a round with differential privacy."""
    return Report(12.0, Score(np.arange(9).reshape(3, 3), np.ones(3)), steps=9, epsilon=2.5).to_metrics()


def stopped(key: str, metrics: dict, arrays: dict | None = None) -> None:
    with pytest.raises(RunError, match="must not leave a site: ") as error:
        check_reply(metrics, arrays or {}, LAYOUT)
    assert error.value.problem == plain_text(f"A reply contains what must not leave a site: {key}.")


def test_replies_of_sites_pass():
    check_registration(*registration())
    check_reply(answer(), LAYOUT, LAYOUT)
    check_reply(answer(), {"flat": (FLAT_SIZE,)}, LAYOUT)
    check_reply(answer(), {}, LAYOUT)
    check_reply(test_answer(), {}, LAYOUT)
    check_reply(calibration_answer(), {}, LAYOUT)
    check_reply(budget_answer(), LAYOUT, LAYOUT)


def test_the_list_has_no_unused_entry():
    assert {item.key for item in REGISTRATION} == registration()[1].keys()
    assert {item.key for item in REPORT} == answer().keys()
    assert {item.key for item in (*REPORT, *TEST_REPORT)} == test_answer().keys()
    assert {item.key for item in (*REPORT, *CALIBRATION)} == calibration_answer().keys()
    assert {item.key for item in (*REPORT, *BUDGET)} == budget_answer().keys()


@pytest.mark.parametrize("make", [answer, test_answer, calibration_answer, budget_answer])
def test_one_number_too_many_is_stopped_at_every_key(make):
    most = {item.key: item.values for item in (*REPORT, *BUDGET, *TEST_REPORT, *CALIBRATION)}
    for key in make():
        check_reply(make() | {key: [0.5] * most[key]}, {}, LAYOUT)
        stopped(key, make() | {key: [0.5] * (most[key] + 1)})


@pytest.mark.parametrize("key", sorted(registration()[1]))
def test_one_number_too_many_in_a_registration_is_stopped_at_every_key(key):
    config, metrics = registration()
    most = {item.key: item.values for item in REGISTRATION}[key]
    with pytest.raises(RunError, match=key):
        check_registration(config, metrics | {key: [1] * (most + 1)})


@pytest.mark.parametrize(
    "value",
    [
        "north/p7.png", b"\x89PNG", ["north/p7.png"], [1, 2, "p7"], [[1, 2, 3]], [b"x"], None, [None], {"a": 1},
        (1, 2), 1j, np.arange(3), True, [1, False], np.bool_(True), np.int64(3), np.float32(3),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_but_numbers_is_stopped(value):
    """Booleans and NumPy scalars are not numbers here, because Flower's records accept neither."""
    stopped("confusion", answer() | {"confusion": value})
    config, metrics = registration()
    with pytest.raises(RunError, match="balanced"):
        check_registration(config, metrics | {"balanced": value})


SCALARS = st.none() | st.booleans() | st.text(max_size=20) | st.binary(max_size=8) | st.integers() | st.floats()


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=20), SCALARS | st.lists(SCALARS, max_size=12))
def test_of_any_entry_only_listed_numbers_pass(key, value):
    limits = {item.key: item.values for item in (*REPORT, *TEST_REPORT)}
    numbers = value if isinstance(value, list) else [value]
    allowed = key in limits and len(numbers) <= limits[key] and all(type(number) in (int, float) for number in numbers)
    if allowed:
        check_reply(answer() | {key: value}, {}, LAYOUT)
    else:
        stopped(key, answer() | {key: value})


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([item.key for item in REGISTRATION]), SCALARS | st.lists(SCALARS, max_size=12))
def test_of_any_value_in_a_registration_only_numbers_pass(key, value):
    config, metrics = registration()
    limit = {item.key: item.values for item in REGISTRATION}[key]
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) <= limit and all(type(number) in (int, float) for number in numbers):
        check_registration(config, metrics | {key: value})
    else:
        with pytest.raises(RunError, match=key):
            check_registration(config, metrics | {key: value})


def test_numpys_float64_is_a_float():
    check_reply(answer() | {"seconds": np.float64(1.5)}, {}, LAYOUT)


def test_numbers_that_are_not_finite_may_leave():
    """So a site can report that its training diverged; the hub refuses such a report."""
    check_reply(answer() | {"train-loss": math.nan, "loss-sums": [math.inf] * 3}, {}, LAYOUT)


@pytest.mark.parametrize("key", ["patient", "paths", "confusion ", "Confusion", "images-train", ""])
def test_another_key_is_stopped(key):
    stopped(key, answer() | {key: 1})


@pytest.mark.parametrize("key", ["patient", "confusion", "test-images"])
def test_another_key_in_a_registration_is_stopped(key):
    config, metrics = registration()
    with pytest.raises(RunError, match=key):
        check_registration(config, metrics | {key: 1})
    with pytest.raises(RunError, match=key):
        check_registration(config | {key: 1}, metrics)


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        (LAYOUT | {"pixels": (32, 32)}, "pixels"),
        (LAYOUT | {"fc.bias": (4,)}, "fc.bias"),
        (LAYOUT | {"fc.weight": (4, 3)}, "fc.weight"),
        (LAYOUT | {"fc.bias": (3, 1), "a": ()}, "a, fc.bias"),
        ({"conv.weight": (4, 3, 3, 3), "fc.weight": (3, 4)}, "fc.bias"),
        ({"flat": (FLAT_SIZE + 1,)}, "flat"),
        ({"flat": (FLAT_SIZE - 1,)}, "flat"),
        ({"flat": (1, FLAT_SIZE)}, "flat"),
        ({"flat": (FLAT_SIZE,), "pixels": (1,)}, "pixels"),
        ({"pixels": (FLAT_SIZE,)}, "pixels"),
    ],
    ids=str,
)
def test_arrays_that_are_not_the_models_are_stopped(arrays, named):
    with pytest.raises(RunError, match="must not leave") as error:
        check_reply(answer(), arrays, LAYOUT)
    said = error.value.problem.partition(": ")[2].rstrip(".").split(", ")
    assert set(named.split(", ")) <= set(said)
    assert set(said) <= {"flat", *arrays, *LAYOUT}


@pytest.mark.parametrize("site", ["/data/north", "../up", "a/b", "", ".hidden", "all", "p 7", b"north"], ids=repr)
def test_an_invalid_site_name_is_stopped(site):
    config, metrics = registration()
    with pytest.raises(RunError, match=r"must not leave a site: site\."):
        check_registration(config | {"site": site}, metrics)


@pytest.mark.parametrize("labels", [[*CLASSES, "patient 7"], list(CLASSES[:2]), list(reversed(CLASSES)), [], ""])
def test_other_class_names_are_stopped(labels):
    config, metrics = registration()
    with pytest.raises(RunError, match=r"must not leave a site: labels\."):
        check_registration(config | {"labels": labels}, metrics)


@pytest.mark.parametrize("key", ["site", "labels"])
def test_a_registration_that_lacks_a_key_is_stopped(key):
    config, metrics = registration()
    del config[key]
    with pytest.raises(RunError, match=key):
        check_registration(config, metrics)
