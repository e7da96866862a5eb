"""A tracker that is slow, full, down or missing neither stops nor delays a run."""

import errno
import importlib.util
import subprocess
import sys
import threading
import time

import pytest

from fedbus.errors import SettingsError
from fedbus.tracking import tracker
from fedbus.tracking.tracker import Tracker, check_tracking, open_tracker
from fedbus.tracking.values import Point
from tests.tiny import tiny_settings

LINES = [{"round": number, "train_loss": 1 / number, "seconds": 2.0} for number in (1, 2, 3)]
SERVER = tiny_settings(track="mlflow:http://127.0.0.1:1")


class Sink:
    """Keeps what it is sent; fails while `error` is set, and waits for `go`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.points, self.calls, self.error, self.closed = list[Point](), 0, error, list[bool]()
        self.go = threading.Event()
        self.go.set()

    def send(self, points: list[Point]) -> None:
        self.calls += 1
        self.go.wait()
        if self.error:
            raise self.error
        self.points += points

    def close(self, finished: bool) -> None:
        self.closed.append(finished)


def losses(sink: Sink) -> dict[int, float]:
    return {point.step: point.value for point in sink.points if point.tag == "train/loss"}


def test_every_round_arrives_and_the_end_is_marked():
    sink = Sink()
    tracked = Tracker(SERVER, sink)
    for line in LINES:
        tracked.follow("fedavg", 0)(line)
    tracked.close(finished=True)
    assert losses(sink) == {1: 1.0, 2: 1 / 2, 3: 1 / 3}
    assert {point.training for point in sink.points} == {"fedavg"}
    assert sink.closed == [True]


def test_validation_that_is_added_to_a_round_later_arrives_with_the_next_round():
    sink, first = Sink(), dict(LINES[0])
    tracked = Tracker(SERVER, sink)
    on_round = tracked.follow("fedavg", 0)
    on_round(first)
    first["validation"] = {"loss": 0.7, "accuracy": 0.5, "macro_f1": None}
    on_round(LINES[1])
    tracked.close(finished=True)
    found = {point.tag: (point.step, point.value) for point in sink.points if point.tag.startswith("validation")}
    assert found == {"validation/loss": (1, 0.7), "validation/accuracy": (1, 0.5)}


def test_several_seeds_are_several_trainings():
    sink = Sink()
    tracked = Tracker(SERVER.model_copy(update={"seeds": (0, 4)}), sink)
    tracked.follow("fedavg", 4)(LINES[0])
    tracked.results({"arms": {"fedavg": {"mean": {"auc": {"value": 0.9, "low": None}}}}})
    tracked.close(finished=True)
    assert {(p.training, p.tag) for p in sink.points if p.training == "fedavg"} == {("fedavg", "test/mean/auc")}
    assert {p.training for p in sink.points} == {"fedavg", "fedavg-seed-4"}


def test_a_tracker_that_fails_warns_once_and_gets_everything_when_it_recovers():
    said = list[str]()
    sink = Sink(OSError(errno.ENOSPC, "No space left on device"))
    tracked = Tracker(SERVER, sink, said.append)
    for line in LINES[:2]:
        calls = sink.calls
        tracked.follow("fedavg", 0)(line)
        while sink.calls == calls:
            time.sleep(0.001)
    sink.error = None
    tracked.follow("fedavg", 0)(LINES[2])
    tracked.close(finished=True)
    assert losses(sink) == {1: 1.0, 2: 1 / 2, 3: 1 / 3}
    assert len(said) == 1
    assert "No space left" in said[0]
    assert "Training continues" in said[0]


def test_a_tracker_that_never_answers_ends_with_the_run_and_limits_its_memory(monkeypatch):
    monkeypatch.setattr(tracker, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(tracker, "MOST_ROUNDS", 5)
    said, sink = list[str](), Sink()
    sink.go.clear()
    tracked = Tracker(SERVER, sink, said.append)
    for _ in range(100):
        tracked.follow("fedavg", 0)(LINES[0])
    tracked.close(finished=True)
    assert tracked.thread.daemon, "else the process would wait for it"
    assert tracked.waiting.qsize() <= 5
    assert len(said) == 1
    sink.go.set()


def test_a_refused_port_warns_once_and_the_block_ends(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    said = list[str]()
    with open_tracker(SERVER, tmp_path, said.append) as tracked:
        for line in LINES:
            tracked.follow("fedavg", 0)(line)
    assert len(said) == 1
    assert said[0].startswith("track = mlflow: figures could not be sent (")


def test_a_damaged_history_stops_nothing():
    said, sink = list[str](), Sink()

    def damaged() -> list[dict[str, object]]:
        raise ValueError("Expecting value: line 1")

    tracked = Tracker(SERVER, sink, said.append)
    tracked.catch_up("fedavg", 0, damaged)
    tracked.close(finished=False)
    assert len(said) == 1


@pytest.mark.parametrize(("track", "package"), [("tensorboard", "tensorboard"), ("mlflow:http://h:1", "mlflow-skinny")])
def test_a_missing_package_is_named_with_what_to_install(track, package, monkeypatch):
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    with pytest.raises(SettingsError) as caught:
        check_tracking(tiny_settings(track=track))
    assert f"needs the package {package}," in caught.value.problem
    assert f"pip install {package}" in caught.value.remedy
    check_tracking(tiny_settings())


def test_without_the_setting_nothing_is_imported_or_started():
    code = (
        "import sys, threading; from pathlib import Path; from fedbus.tracking.tracker import open_tracker; "
        "from tests.tiny import tiny_settings\n"
        "with open_tracker(tiny_settings(), Path('x'), print) as tracked:\n"
        "    tracked.follow('fedavg', 0)({'round': 1})\n"
        "    print(threading.active_count(), *(name for name in ('tensorboard', 'mlflow') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
    assert importlib.util.find_spec("tensorboard")
    assert importlib.util.find_spec("mlflow")
