"""Replies of a tampered site: refused with a reason, whatever they contain, and never the end of the hub."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.classes import CLASSES
from fedbus.evaluation.binned_counts import count_bins
from fedbus.evaluation.validation import Score
from fedbus.transport.messages import ARRAYS, BINS, LIKELIHOODS, METRICS, Instruction, Registration
from fedbus.transport.packing import layout_of
from fedbus.transport.report import Report
from fedbus.transport.weights import WeightCodec
from server.rounds.messaging import Participants, Replies
from server.rounds.screening import MAX_LOSS, screen_scores, screen_updates
from tests.tiny import tiny_settings

SPLITS = {"train": (12, 0, 4), "validation": (3, 0, 1), "test": (5, 0, 2)}
PARTICIPANTS = Participants({7: Registration("north", CLASSES, 32, SPLITS, (12, 0, 12), 20, 18, 0)})
TESTED = Instruction(tiny_settings(), 0, (), split="test")
BEFORE = {"fc.weight": torch.ones(3, 2)}
VALID = Report(
    16.0, Score(np.array([[2, 1, 0], [0, 0, 0], [0, 0, 1]]), np.array([2.5, 0.0, 1.0])), loss=0.7, steps=9, seconds=1.0
)


@pytest.fixture(autouse=True)
def sender():
    """The sender, as Flower's processes set it."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def reply(metrics: object, arrays: object = None) -> Replies:
    content = RecordDict({METRICS: metrics if metrics is not None else MetricRecord(VALID.to_metrics())})
    flat = ArrayRecord({"flat": Array(np.full(6, 1.1, dtype=np.float32))})
    content[ARRAYS] = arrays if arrays is not None else flat
    return Replies({"north": Message(content, 7, MessageType.TRAIN)}, {}, {})


def why(replies: Replies) -> str:
    found = screen_updates(replies, PARTICIPANTS, tiny_settings(), BEFORE, WeightCodec("flat", layout_of(BEFORE)))
    assert (set(found.reports), set(found.updates)) in (({"north"}, {"north"}), (set(), set()))
    return found.refused.get("north", "")


def changed(**changes: object) -> MetricRecord:
    return MetricRecord(replace(VALID, **changes).to_metrics())


def score(*rows: list[int], loss: float = 3.5) -> Score:
    return Score(np.array(rows), np.array([loss, 0.0, 0.0]))


def test_a_valid_reply_is_used():
    assert why(reply(None)) == ""


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (changed(score=score([3, 1, 0], [0, 0, 0], [0, 0, 1])), "another number of images"),
        (changed(score=score([2, 1, 0], [0, 1, 0], [0, 0, 0])), "another number of images"),
        (changed(score=score([2**62, 1, 0], [0, 0, 0], [0, 0, 1])), "another number of images"),
        (changed(weight=25.0), "a larger weight than its number"),
        (changed(weight=1e300), "a larger weight than its number"),
        (changed(steps=2**62), "an impossible number of steps"),
        (changed(loss=2 * MAX_LOSS), "an impossible loss"),
        (changed(loss=1e308), "an impossible loss"),
        (changed(score=score([2, 1, 0], [0, 0, 0], [0, 0, 1], loss=1e308)), "an impossible loss"),
        (MetricRecord({"num-examples": 1.0}), "is not valid"),
    ],
)
def test_a_report_that_cannot_be_about_the_sites_rows_is_refused(metrics, words):
    assert words in why(reply(metrics))


@pytest.mark.parametrize(
    "arrays",
    [
        MetricRecord({"flat": 1.0}),
        ArrayRecord({"flat": Array("float32", (6,), "numpy.ndarray", b"PK\x05\x06" + b"\0" * 18)}),
        ArrayRecord({"flat": Array("float32", (6,), "numpy.ndarray", b"PK\x03\x04 broken")}),
        ArrayRecord({"flat": Array("float32", (6,), "numpy.ndarray", b"")}),
        ArrayRecord({"flat": Array("float32", (6,), "numpy.ndarray", b"\x80\x04pickle")}),
    ],
)
def test_damaged_arrays_are_refused(arrays):
    assert "can't be read" in why(reply(None, arrays))


def test_only_scores_of_the_requested_split_are_used():
    ours = replace(VALID, weight=7.0, score=score([5, 0, 0], [0, 0, 0], [0, 0, 2]))
    found = screen_scores(reply(MetricRecord(ours.to_metrics())), PARTICIPANTS, TESTED)
    assert found.reports["north"].score.confusion.tolist() == ours.score.confusion.tolist()
    assert dict(found.refused) == {}
    other = screen_scores(reply(changed(weight=4.0)), PARTICIPANTS, TESTED)
    assert not other.reports
    assert other.reasons == f"north: {other.refused['north']}"
    assert "another number of images" in other.reasons


def test_failed_sites_are_named():
    failed = Replies({}, {"north": "failed: out of memory"}, {"north": 2})
    assert screen_scores(failed, PARTICIPANTS, TESTED).reasons == "north: failed: out of memory"


def test_a_site_that_collected_nothing_or_counts_other_images_is_refused():
    ours = replace(VALID, weight=4.0)
    for collect in (LIKELIHOODS, BINS):
        asked = Instruction(tiny_settings(), 0, (), collect=collect)
        assert f"no {collect}" in screen_scores(reply(MetricRecord(ours.to_metrics())), PARTICIPANTS, asked).reasons
    bins = count_bins(np.array([0, 0, 0, 2]), np.array([0.1, 0.2, 0.3, 0.4]))
    sound = screen_scores(reply(MetricRecord(replace(ours, bins=bins).to_metrics())), PARTICIPANTS, asked)
    assert sound.reports["north"].bins == bins
    for labels in ([0, 0, 0], [0, 0, 1, 2]):
        bins = count_bins(np.array(labels), np.full(len(labels), 0.5))
        found = screen_scores(reply(MetricRecord(replace(ours, bins=bins).to_metrics())), PARTICIPANTS, asked)
        assert "bins count another number" in found.reasons
