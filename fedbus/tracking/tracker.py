"""Sends figures from a thread, so that a tracker that is slow, full or down neither delays nor ends a run."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from fedbus.errors import SettingsError
from fedbus.settings.schema import Settings
from fedbus.settings.track import TENSORBOARD, tracker_kind, tracking_server
from fedbus.text import plain_text
from fedbus.tracking.values import Point, final_figures, round_figures, settings_texts

CLOSE_SECONDS, INTERRUPTED_SECONDS = 10.0, 2.0
"""How long the end of a run waits for figures that are not sent yet, and how long after Ctrl-C or an error."""

MOST_ROUNDS, MOST_FIGURES = 10_000, 200_000
"""What waits for a tracker that does not answer; more is dropped, and sent by `--resume`."""

PACKAGES = {TENSORBOARD: ("tensorboard", "tensorboard"), "mlflow": ("mlflow", "mlflow-skinny")}
"""By kind of tracker, the module that it needs and the package that contains it."""

Line = Mapping[str, Any]
"""A line of an arm's history."""

Warn = Callable[[str], object]


class Sink(Protocol):
    """Where figures go; figures that are there already are not sent twice."""

    def send(self, points: list[Point]) -> None:
        """Send points, or raise any exception."""

    def close(self, finished: bool) -> None:
        """Mark what was sent as complete, or as ended before its end."""


def check_tracking(settings: Settings) -> None:
    """Check, before anything is trained, that the package which `track` needs is installed.

    Raises:
        SettingsError: If it is not.
    """
    kind = tracker_kind(settings.track)
    if not kind:
        return
    module, package = PACKAGES[kind]
    if find_spec(module) is None:
        raise SettingsError(
            f"track = {kind} needs the package {package}, which is not installed.",
            f"Install it in the environment of fedbus (pip install {package}), or leave out track.",
        )


class Tracker:
    """Takes the figures of a run, and sends them from a thread.

    Args:
        settings: The settings of the run.
        sink: Where the figures go; None: nowhere.
        warn: Called once, with a line of text, if they can't be sent. It may be called from another thread.
    """

    def __init__(self, settings: Settings, sink: Sink | None = None, warn: Warn = lambda text: None) -> None:
        self.settings, self.sink, self.warn = settings, sink, warn
        self.latest: dict[tuple[str, int], Line] = {}
        self.waiting = queue.Queue[list[Point] | None](MOST_ROUNDS)
        self.finished = self.warned = False
        self.thread = threading.Thread(target=self._work, name="tracking", daemon=True)  # it can't delay the exit
        if sink:
            self.thread.start()

    def follow(self, arm: str, seed: int) -> Callable[[Line], None]:
        """Return what to call with the history line of every round, finished or replayed."""

        def on_round(line: Line) -> None:
            self.latest.setdefault((arm, seed), line)
            # The validation scores of a federated round are added to its line only after the next round.
            for (name, of_seed), before in self.latest.items():
                self._put(name, of_seed, before)
            self.latest[arm, seed] = line
            self._put(arm, seed, line)

        return on_round if self.sink else lambda line: None

    def catch_up(self, arm: str, seed: int, read_history: Callable[[], list[dict[str, Any]]]) -> None:
        """Send what an arm's history contains and the tracker lacks: rounds before --resume, the last scores."""
        if not self.sink:
            return
        try:
            for line in read_history():
                self._put(arm, seed, line)
        except (OSError, ValueError, KeyError, TypeError) as error:  # the history is written for people only
            self._warn(error)

    def results(self, results: Mapping[str, Any]) -> None:
        """Send the test figures of every arm; with several seeds their means.

        Args:
            results: Content of `results.json`.
        """
        for arm, places in results["arms"].items():
            self._queue(arm, final_figures(places), self.settings.rounds)

    def close(self, finished: bool) -> None:
        """Send what is left, for a limited time.

        Args:
            finished: Whether the run came to its end.
        """
        if not self.sink:
            return
        self.finished = finished
        with suppress(queue.Full):  # then the thread is busy, and the next line waits for it in vain
            self.waiting.put_nowait(None)
        self.thread.join(CLOSE_SECONDS if finished else INTERRUPTED_SECONDS)
        if self.thread.is_alive():
            self._warn(TimeoutError("it is slow to answer"))

    def _put(self, arm: str, seed: int, line: Line) -> None:
        training = arm if len(self.settings.seeds) == 1 else f"{arm}-seed-{seed}"
        self._queue(training, round_figures(line, arm, self.settings), line["round"])

    def _queue(self, training: str, values: Mapping[str, float], step: int) -> None:
        if not self.sink:
            return
        try:
            self.waiting.put_nowait([Point(training, tag, step, value) for tag, value in values.items()])
        except queue.Full as error:
            self._warn(error)

    def _work(self) -> None:
        """Send what is waiting until `close`; after an error, what is left is tried again with the next figures."""
        unsent: dict[tuple[str, str, int], Point] = {}
        more = True
        while more:
            found = [self.waiting.get()]
            with suppress(queue.Empty):
                while True:
                    found.append(self.waiting.get_nowait())
            more = None not in found
            for point in chain.from_iterable(points for points in found if points):
                if len(unsent) < MOST_FIGURES:
                    unsent[point.place] = point
            if unsent:
                self._send(unsent)
        if self.sink and not unsent:
            with suppress(Exception):  # only a mark, without figures
                self.sink.close(self.finished)

    def _send(self, unsent: dict[tuple[str, str, int], Point]) -> None:
        """Send points and remove them, or keep them."""
        assert self.sink
        try:
            self.sink.send(list(unsent.values()))
            unsent.clear()
        except Exception as error:  # whatever a tracker raises, the run continues
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self.warned:
            return
        self.warned = True
        kind = tracker_kind(self.settings.track)
        reason = plain_text(f"{type(error).__name__}: {error}", 300)
        self.warn(f"track = {kind}: figures could not be sent ({reason}). Training continues; --resume sends them.")


@contextmanager
def open_tracker(settings: Settings, out: Path, warn: Warn, phantoms: bool | None = None) -> Iterator[Tracker]:
    """Track a run inside the block; without the setting `track`, nothing is imported, started or sent.

    Args:
        settings: The settings of the run.
        out: The run folder.
        warn: As in `Tracker`.
        phantoms: Whether the images are synthetic; None if that is not known yet.
    """
    tracker = Tracker(settings, _make_sink(settings, out, phantoms), warn)
    finished = False
    try:
        yield tracker
        finished = True
    finally:
        tracker.close(finished)


def _make_sink(settings: Settings, out: Path, phantoms: bool | None) -> Sink | None:
    kind = tracker_kind(settings.track)
    if not kind:
        return None
    texts = settings_texts(settings, phantoms)
    if kind == TENSORBOARD:
        from fedbus.tracking.tensorboard import FOLDER, TensorBoardFiles

        return TensorBoardFiles(out / FOLDER, texts)
    from fedbus.runs.folder import run_id
    from fedbus.tracking.mlflow_server import MlflowServer

    return MlflowServer(tracking_server(settings.track), run_id(out), texts)
