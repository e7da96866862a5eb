"""`fedbus predict`: apply a model to the images of folders and files, and write one row per image."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.evaluation.predict import BATCH
from fedbus.model_folder.apply import AppliedModel, open_model, which_arrays
from fedbus.model_folder.features import FeatureWatch, KnownFeatures, known_features, watch_features
from fedbus.model_folder.read import ModelFolder, read_model
from fedbus.predict.decode import Decoded, Decoder
from fedbus.predict.sources import Found, Source, Unreadable, find_sources
from fedbus.predict.table import COLUMNS, NO, UNKNOWN, YES, rows
from fedbus.runs.environment import describe_environment
from fedbus.system.csv_file import format_rows, write_csv
from fedbus.system.files import check_new_folder, make_private_folder, write_json, write_text, write_whole
from fedbus.system.progress import Advance
from fedbus.system.terminal import advance_task, print_line, progress_bar
from fedbus.text import NOT_A_DEVICE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PREDICTIONS_FILE, UNREADABLE_FILE, RUN_FILE = "predictions.csv", "unreadable.csv", "run.json"

NOTHING_READABLE = 2
"""Exit code if no image could be decoded."""

MOST_TO_ADAPT = 512
"""Images that BatchNorm's statistics are estimated from, at most: they are in memory together."""


COUNTED = ("class", "above_threshold", "unlike_training")
"""Columns whose values are counted."""


def default_out() -> Path:
    """Name a new folder after the current time."""
    return Path(f"predictions-{datetime.now():%Y%m%d-%H%M%S}")


def predict_paths(
    model: Path, paths: Sequence[Path], site: str | None, out: Path | None, console: "Console", device: str = "auto"
) -> int:
    """Predict the images of files and folders.

    Args:
        model: A model folder.
        paths: Files and folders.
        site: A site of the training whose arrays are used; None: the model for everywhere else.
        out: Folder of the results; None: `default_out()`.
        console: Prints progress and the summary.
        device: As the setting.

    Returns:
        The exit code: 0, or `NOTHING_READABLE`.

    Raises:
        FedbusError: If the model, a path or `out` can't be used; nothing is written then.
    """
    started, folder = time.monotonic(), read_model(model)
    arrays = which_arrays(folder, site)
    found, out = find_sources(paths), out or default_out()
    _check_out(out, found)
    decoder = Decoder(folder.facts.image_size, folder.facts.burned_in == "masked")
    with progress_bar(console) as bar:
        sample = _sample(found.sources, decoder, bar) if arrays == "adapted" else None
        all_broken = sample is not None and not len(sample) and _images(found.sources) <= MOST_TO_ADAPT
        applied = None if all_broken or not found.sources else open_model(folder, site, sample, device)
        make_private_folder(out)
        run = PredictionRun(applied, site, list(found.unreadable), advance_task(bar, "predict", _images(found.sources)))
        stream = decoder.decode_all(found.sources)
        write_whole(out / PREDICTIONS_FILE, lambda path: run.write(path, stream))
    unreadable = sorted((each.name, each.problem, each.remedy) for each in run.unreadable)
    write_text(out / UNREADABLE_FILE, write_csv(("file", "problem", "remedy"), unreadable))
    notes = [*found.notes, *_notes(folder, site, sample, run)]
    facts = _describe(folder, site, run, sample, notes, time.monotonic() - started)
    write_json(out / RUN_FILE, facts)
    for line in (*notes, *_summary(out, run), NOT_A_DEVICE):
        print_line(line)
    return 0 if run.images else NOTHING_READABLE


@dataclass
class PredictionRun:
    """One pass over the images.

    Attributes:
        model: The model; None if no image can be decoded.
        site: The site whose arrays it has.
        unreadable: What can't be decoded.
        advance: Called with the number of images of every batch.
        counts: Rows by the values of `class`, `above_threshold` and `unlike_training`.
    """

    model: AppliedModel | None
    site: str | None
    unreadable: list[Unreadable]
    advance: Advance
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})

    @property
    def images(self) -> int:
        """Rows that have been written."""
        return self.counts["class"].total()

    def write(self, path: Path, stream: Iterator[list[Decoded | Unreadable]]) -> None:
        """Write the rows of all images, batch by batch."""
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(format_rows([COLUMNS]))
            if self.model is None:
                for _ in self._batches(stream):
                    raise AssertionError("no image of the sample could be decoded")
                return
            known = known_features(self.model, self.site)
            with watch_features(self.model.module) as watch:
                for batch in self._batches(stream):
                    self._predict(batch, self.model, known, watch, file)

    def _batches(self, stream: Iterator[list[Decoded | Unreadable]]) -> Iterator[list[Decoded]]:
        """Collect decoded images to batches of the model."""
        batch: list[Decoded] = []
        for decoded in stream:
            for each in decoded:
                if isinstance(each, Unreadable):
                    self.unreadable.append(each)
                    self.advance(1)
                    continue
                batch.append(each)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _predict(
        self,
        batch: list[Decoded],
        model: AppliedModel,
        known: KnownFeatures | None,
        watch: FeatureWatch | None,
        file: TextIO,
    ) -> None:
        probabilities = model.predict(np.stack([image.pixels for image in batch]))
        features = watch.take() if watch else None
        distances = None if known is None or features is None else known.distances(features) / known.limit
        found = list(rows(batch, probabilities, model.folder.facts.calibration, distances))
        file.write(format_rows(found))
        for name, counter in self.counts.items():
            counter.update(str(row[COLUMNS.index(name)]) for row in found)
        self.advance(len(batch))


def _images(sources: Sequence[Source]) -> int:
    return sum(map(len, sources))


def _sample(sources: Sequence[Source], decoder: Decoder, bar: "Progress") -> NDArray[np.uint8]:
    """Decode evenly spaced images, to estimate statistics from: uint8 [M, size, size], M at most `MOST_TO_ADAPT`."""
    places = [(source, place) for source in sources for place in range(len(source))]
    count = min(len(places), MOST_TO_ADAPT)
    chosen: dict[Source, list[int]] = {}
    for index in np.linspace(0, len(places) - 1, count).round().astype(int):
        source, place = places[index]
        chosen.setdefault(source, []).extend(source.frames[place : place + 1])
    advance, images = advance_task(bar, "adapt", count), []
    for decoded in decoder.decode_all([replace(each, frames=tuple(frames)) for each, frames in chosen.items()]):
        images += [each.pixels for each in decoded if isinstance(each, Decoded)]
        advance(len(decoded))
    return np.stack(images) if images else np.empty((0, decoder.size, decoder.size), dtype=np.uint8)


def _check_out(out: Path, found: Found) -> None:
    """Refuse to write into an input folder, or over another result."""
    target = out.resolve()
    inside = next((folder for folder in found.folders if target == folder or folder in target.parents), None)
    if inside is not None:
        raise RunError(
            f"The results would be written to {out}, inside the input folder {inside}.",
            "Name a folder elsewhere: --out FOLDER.",
        )
    check_new_folder(out)


def _notes(folder: ModelFolder, site: str | None, sample: NDArray[np.uint8] | None, run: PredictionRun) -> list[str]:
    """Describe what a reader of the results must know."""
    facts, notes = folder.facts, []
    if sample is not None and len(sample):
        notes.append(
            f"The model has BatchNorm statistics only for its sites; they were estimated from {len(sample)} of these "
            "images, without labels. The probabilities of an image depend on the images beside it."
        )
    if facts.calibration is None:
        notes.append("The model is not calibrated: its probabilities are as trained, and it has no threshold.")
    elif facts.calibration.threshold is None:
        notes.append(f"The model has no threshold: {facts.calibration.reason}")
    if facts.phantoms:
        notes.append("The model was trained on phantoms, synthetic images: it knows nothing about patients.")
    if run.images and run.counts["unlike_training"][UNKNOWN]:
        notes.append("The model has no description of its training images: only masks and empty images are noticed.")
    return notes


def _describe(
    folder: ModelFolder,
    site: str | None,
    run: PredictionRun,
    sample: NDArray[np.uint8] | None,
    notes: list[str],
    seconds: float,
) -> dict[str, Any]:
    """Return the content of `run.json`."""
    facts, model = folder.facts, run.model
    return {
        "notice": NOT_A_DEVICE,
        **describe_environment(),
        "model": {
            "arm": facts.arm,
            "seed": facts.seed,
            "run": facts.run,
            "sha256": folder.digest,
            "as": site,
            "arrays": model.arrays if model else None,
            "adapted_to": None if sample is None else len(sample),
            "temperature": facts.calibration.temperature if facts.calibration else None,
            "threshold": facts.calibration.threshold if facts.calibration else None,
        },
        "device": str(next(model.module.parameters()).device) if model else None,
        "images": run.images,
        "unreadable": len(run.unreadable),
        **{name: dict(counter) for name, counter in run.counts.items()},
        "notes": notes,
        "seconds": round(seconds, 1),
    }


def _summary(out: Path, run: PredictionRun) -> list[str]:
    """Say in one to three lines what was found, and where."""
    classes = ", ".join(f"{count} {name}" for name, count in sorted(run.counts["class"].items()))
    lines = [f"{run.images} images: {classes}." if run.images else "No image could be read."]
    above, unlike = run.counts["above_threshold"][YES], run.counts["unlike_training"][YES]
    if run.counts["above_threshold"][NO] or above:
        lines[0] += f" {above} above the threshold for malignant."
    if unlike:
        lines.append(f"{unlike} images are unlike those of the training: do not use their predictions.")
    if run.unreadable:
        lines.append(f"{len(run.unreadable)} could not be read: {out / UNREADABLE_FILE} names each, with a remedy.")
    return [*lines, f"Results: {out / PREDICTIONS_FILE}"]
