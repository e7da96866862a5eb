"""Writes event files for TensorBoard below the run folder: one folder per training."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from torch.utils.tensorboard import SummaryWriter

from fedbus.tracking.values import Point

FOLDER = "tensorboard"


class TensorBoardFiles:
    """The event files of a run; those of earlier processes are continued in new files beside them.

    Args:
        folder: The folder that TensorBoard is called with as `--logdir`.
        settings: Settings to show as text.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.settings = folder, settings
        self.writers: dict[str, SummaryWriter] = {}
        self.written: dict[str, set[tuple[str, int]]] = {}

    def send(self, points: Iterable[Point]) -> None:
        """Write points that no event file contains yet.

        Raises:
            Exception: Whatever TensorBoard's writer raises, for example `OSError` on a full disk. Its file is given
                up; the next call starts another one with what is missing.
        """
        by_training = defaultdict[str, list[Point]](list)
        for point in points:
            by_training[point.training].append(point)
        for training, found in by_training.items():
            try:
                self._write(training, found)
            except Exception:
                self._give_up(training)
                raise

    def close(self, finished: bool) -> None:
        """Close the files."""
        for training in list(self.writers):
            self._give_up(training)

    def _write(self, training: str, points: Iterable[Point]) -> None:
        folder = self.folder / training
        if training not in self.writers:
            self.written[training] = _read_places(folder)
            self.writers[training] = writer = SummaryWriter(str(folder))
            if not self.written[training]:
                writer.add_text("settings", _as_markdown(self.settings), 0)
        writer, written = self.writers[training], self.written[training]
        for point in points:
            if (point.tag, point.step) not in written:
                writer.add_scalar(point.tag, point.value, point.step)
                written.add((point.tag, point.step))
        writer.flush()  # raises what the writer's own thread met

    def _give_up(self, training: str) -> None:
        writer = self.writers.pop(training, None)
        if writer:
            with suppress(Exception):  # the disk may still be full
                writer.close()


def _read_places(folder: Path) -> set[tuple[str, int]]:
    """Return tag and step of every figure in the event files of a folder; a file may be cut off."""
    return {
        (value.tag, event.step)
        for path in sorted(folder.glob("*tfevents*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    }


def _as_markdown(settings: Mapping[str, str]) -> str:
    return "\n".join(["| setting | value |", "| --- | --- |", *(f"| {key} | {v} |" for key, v in settings.items())])
