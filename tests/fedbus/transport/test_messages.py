"""The messages: received unchanged, and refused by the receiver if anything in them is wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.classes import CLASSES
from fedbus.errors import FedbusError, RunError
from fedbus.evaluation.validation import Score
from fedbus.transport.messages import PROXIMAL_MU, ROUND, Instruction, Registration
from fedbus.transport.report import Report
from tests.tiny import tiny_settings

CONFUSION = np.arange(9).reshape(3, 3)
LOSSES = np.array([1.0, 2.0, 0.5])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=8)
VALUES = SCALARS | st.lists(SCALARS, max_size=5)
"""Whatever a message can contain under a key, and more."""


def instruction() -> Instruction:
    return Instruction(tiny_settings(), seed=2**62 + 1, classes=(0, 2), split="test", round=3, proximal_mu=0.1)


def instruction_config() -> dict:
    return instruction().to_config() | {ROUND: 3, PROXIMAL_MU: 0.1}


def report() -> Report:
    return Report(weight=12.0, score=Score(CONFUSION, LOSSES), loss=0.7, steps=9, seconds=1.25)


def test_an_instruction_is_received_unchanged():
    back = Instruction.from_config(instruction_config())
    assert (back.seed, back.classes, back.split, back.round, back.proximal_mu) == (2**62 + 1, (0, 2), "test", 3, 0.1)
    named = Instruction.from_config(replace(instruction(), title="ward", run="0a").to_config())
    assert (named.title, named.run, named.memory, back.memory) == ("ward", "0a", "ward-0a", "run")
    hidden = {"device", "weights", "cache", "sites"}  # each site has its own
    assert back.settings.model_dump(exclude=hidden) == instruction().settings.model_dump(exclude=hidden)


def test_round_and_mu_are_optional():
    back = Instruction.from_config(instruction().to_config())
    assert (back.round, back.proximal_mu) == (0, 0.0)


@pytest.mark.parametrize("key", ["settings", "seed", "classes", "split", "title", "run", "arm", "task"])
def test_an_instruction_that_lacks_a_key_is_refused(key):
    config = instruction_config()
    del config[key]
    with pytest.raises(RunError, match=key):
        Instruction.from_config(config)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [3]}, {"classes": [-1]}, {"split": "training"}, {ROUND: -1}, {PROXIMAL_MU: -0.1},
        {PROXIMAL_MU: math.nan}, {PROXIMAL_MU: math.inf}, {"title": ""}, {"title": "../up"}, {"title": "a/b"},
        {"title": "x" * 101}, {"run": "../up"}, {"run": "F"}, {"run": "0" * 17}, {"arm": "../up"},
        {"arm": "a/b"}, {"task": "tidy"}, {"task": ""}, {"settings": "{"}, {"settings": "3"},
        {"settings": '{"rounds": 0}'}, {"settings": '{"roundz": 3}'},
    ],
    ids=str,
)  # fmt: skip
def test_an_instruction_with_a_wrong_value_is_refused(change):
    with pytest.raises(FedbusError):
        Instruction.from_config(instruction_config() | change)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(sorted(instruction_config())), VALUES)
def test_any_value_in_an_instruction_is_refused_or_within_its_range(key, value):
    try:
        found = Instruction.from_config(instruction_config() | {key: value})
    except FedbusError:
        return
    assert set(found.classes) <= {0, 1, 2}
    assert found.split in ("train", "validation", "test")
    assert found.round >= 0
    assert 0 <= found.proximal_mu < math.inf
    assert "/" not in found.memory
    assert not found.memory.startswith(".")


def registration(**changes: object) -> Registration:
    splits = {"train": (12, 0, 4), "validation": (3, 0, 1), "test": (5, 0, 2)}
    values = {"site": "north", "labels": CLASSES, "image_size": 32, "splits": splits, "balanced": (12, 0, 12)}
    return Registration(**(values | {"groups": 20, "patients": 18, "dropped": 2, "phantoms": True} | changes))


def test_a_registration_is_received_unchanged():
    assert Registration.from_records(*registration().to_records()) == registration()
    assert registration().classes == {0, 2}


@pytest.mark.parametrize("name", ["", "a/b", "../up", "all", ".hidden"])
def test_a_site_name_that_is_not_safe_as_a_folder_is_refused(name):
    config, metrics = registration().to_records()
    with pytest.raises(RunError, match="registration"):
        Registration.from_records(config | {"site": name}, metrics)


@pytest.mark.parametrize("key", sorted(registration().to_records()[1]))
def test_a_registration_that_lacks_a_key_is_refused(key):
    config, metrics = registration().to_records()
    del metrics[key]
    with pytest.raises(RunError, match=key):
        Registration.from_records(config, metrics)


@pytest.mark.parametrize("key", ["balanced", "images-test", "images-train", "images-validation"])
@pytest.mark.parametrize("value", [[], [1, 2], [1, -1, 3], [1, 2, 3, 4], [1, math.nan, 3], -1], ids=str)
def test_a_wrong_row_of_counts_is_refused(key, value):
    config, metrics = registration().to_records()
    with pytest.raises(RunError, match="registration"):
        Registration.from_records(config, metrics | {key: value})


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(sorted(registration().to_records()[1])), VALUES)
def test_any_value_in_a_registration_is_refused_or_gives_counts(key, value):
    """Any image size is accepted here: it is compared with the settings later."""
    config, metrics = registration().to_records()
    try:
        found = Registration.from_records(config, metrics | {key: value})
    except RunError:
        return
    counts = [*found.splits.values(), found.balanced]
    assert all(len(row) == len(CLASSES) and min(row) >= 0 for row in counts)
    assert min(found.groups, found.patients, found.dropped) >= 0
    assert isinstance(found.phantoms, bool)


def test_a_site_with_other_classes_or_image_size_does_not_match_the_settings():
    size = tiny_settings().image_size
    assert registration(image_size=size).mismatch(tiny_settings()) == ""
    assert registration(image_size=48).mismatch(tiny_settings()) == (f"north prepared images of 48 pixels, not {size}")
    other = registration(image_size=size, labels=("benign", "cancer"))
    assert other.mismatch(tiny_settings()).startswith("north has the classes benign, cancer, not benign")


def test_a_report_is_received_unchanged():
    back = Report.from_metrics(report().to_metrics())
    np.testing.assert_array_equal(back.score.confusion, CONFUSION)
    assert back.score.confusion.dtype == np.int64
    assert (back.weight, back.score.loss_sums.tolist(), back.loss, back.steps, back.seconds) == (
        12.0,
        LOSSES.tolist(),
        0.7,
        9,
        1.25,
    )


@pytest.mark.parametrize("key", sorted(report().to_metrics()))
def test_a_report_that_lacks_a_key_is_refused(key):
    metrics = report().to_metrics()
    del metrics[key]
    with pytest.raises(RunError, match=key):
        Report.from_metrics(metrics)


@pytest.mark.parametrize("key", sorted(report().to_metrics()))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, None, "x", [], [1, 2]], ids=str)
def test_a_report_with_a_wrong_value_is_refused(key, value):
    with pytest.raises(RunError, match="report"):
        Report.from_metrics(report().to_metrics() | {key: value})


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(sorted(report().to_metrics())), VALUES)
def test_any_value_in_a_report_is_refused_or_finite(key, value):
    try:
        found = Report.from_metrics(report().to_metrics() | {key: value})
    except RunError:
        return
    numbers = (found.weight, *found.score.loss_sums.tolist(), found.loss, found.seconds, found.steps)
    assert all(0 <= number < math.inf for number in numbers)
    assert found.weight > 0
    assert found.score.confusion.min() >= 0


@pytest.mark.parametrize(
    "confusion", [[1] * 8, [1] * 10, [1] * 8 + [-1], [1] * 8 + [math.nan], [1] * 8 + [math.inf], [2**70] * 9, [0] * 9]
)
def test_a_report_with_a_wrong_confusion_is_refused(confusion):
    with pytest.raises(RunError, match="report"):
        Report.from_metrics(report().to_metrics() | {"confusion": confusion})


def test_a_weight_of_zero_is_refused_and_an_idle_report_is_not():
    with pytest.raises(RunError, match="zero"):
        Report.from_metrics(report().to_metrics() | {"num-examples": 0.0})
    idle = Report(1.0, Score(CONFUSION, np.zeros(3)))
    assert Report.from_metrics(idle.to_metrics()).steps == 0
