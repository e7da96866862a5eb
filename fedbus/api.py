"""FedBUS from Python: load runs and models, predict on arrays, make figures, and call the commands as functions.

Only the names in this module are public; all others can change between versions. See docs/python.md.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.api_commands import Columns, card, evaluate, explain, export, measure_focus, predict
from fedbus.classes import CLASSES
from fedbus.errors import FedbusError, RunError, SettingsError
from fedbus.evaluation.measured import CLASS_METRICS, METRICS
from fedbus.evaluation.predictions import Predictions
from fedbus.images.decode import decode_image
from fedbus.images.model_input import prepare_image
from fedbus.model_folder.apply import AppliedModel, open_model
from fedbus.model_folder.read import read_model
from fedbus.reports.comparison.figures import headline_figure_png
from fedbus.reports.comparison.results import RESULTS_FILE
from fedbus.runs.checkpoint import ArmFolder
from fedbus.system.files import read_json

__all__ = [
    "CLASSES", "FedbusError", "Model", "Run", "card", "evaluate", "explain", "export", "load_model", "load_run",
    "measure_focus", "predict",
]  # fmt: skip

Picture = NDArray[np.uint8] | str | Path
"""A grey image, uint8 [H, W] of any size, or the path of an image file; `scan.dcm#12` is a DICOM file's frame."""


@dataclass(frozen=True)
class Run:
    """A finished comparison.

    Attributes:
        folder: Its run folder.
        results: The content of its `results.json`.
    """

    folder: Path
    results: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        """The arms with figures; `local` is each site with its own model."""
        return list(self.results["arms"])

    @property
    def sites(self) -> list[str]:
        """The sites."""
        return list(self.results["sites"])

    def metrics(self) -> Columns:
        """Return all figures on the test images, with 95 % intervals.

        Returns:
            Columns `arm`, `site` (a site, `all`: all test images, or `mean`: the mean over sites), `metric`, `label`
            (a class for `sensitivity` and `specificity`, otherwise empty), `value`, `low`, `high`. Undefined figures
            have no row.
        """
        rows = []
        for arm, places in self.results["arms"].items():
            for place, found in places.items():
                figures = [(metric, "", found.get(metric)) for metric in METRICS]
                figures += [(m, label, figure) for m in CLASS_METRICS for label, figure in found.get(m, {}).items()]
                rows += [(arm, place, *figure) for figure in figures if figure[-1]]
        keys = ("arm", "site", "metric", "label")
        return _columns([dict(zip(keys, row, strict=False)) | _interval(row[-1]) for row in rows])

    def differences(self) -> Columns:
        """Return the paired differences of the federated arms to the others.

        Returns:
            Columns `arm`, `reference`, `site`, `metric`, `value`, `low`, `high`: `arm` minus `reference`.
        """
        return _columns(self.results["differences"])

    def history(self, arm: str, seed: int | None = None) -> Columns:
        """Return the rounds of an arm.

        Args:
            arm: An arm that was trained.
            seed: A training seed; needed only if there are several.

        Returns:
            Columns `round`, `train_loss`, `seconds`, and of the validation images `loss`, `accuracy` and `macro_f1`
            (None where a round was not scored).

        Raises:
            RunError: If the run has no such arm.
        """
        lines = ArmFolder(self._arm(arm, seed, "history.jsonl")).read_history()
        scored = {"loss", "accuracy", "macro_f1"}
        return _columns(
            [
                {key: line.get(key) for key in ("round", "train_loss", "seconds")}
                | {key: line.get("validation", {}).get(key) for key in sorted(scored)}
                for line in lines
            ]
        )

    def predictions(self, arm: str, seed: int | None = None) -> Columns:
        """Return an arm's predictions on the test images, before calibration.

        Args:
            arm: An arm of the run.
            seed: A training seed; needed only if there are several.

        Returns:
            Columns `site`, `path`, `group`, `label`, and one of probabilities for each class.

        Raises:
            RunError: If the run has no such arm, or the file is damaged.
        """
        found = Predictions.from_csv(self._arm(arm, seed, "predictions.csv") / "predictions.csv")
        names = [CLASSES[label] for label in found.labels]
        columns: Columns = {"site": found.sites.tolist(), "path": found.paths.tolist(), "group": found.groups.tolist()}
        return columns | {"label": names} | dict(zip(CLASSES, found.probabilities.T.tolist(), strict=True))

    def save_figure(self, path: str | Path) -> Path:
        """Draw every arm with its intervals, mean of sites and all test images, as a PNG file; return its path.

        Raises:
            RunError: If the file can't be written.
        """
        headline_figure_png(self.results, Path(path))
        return Path(path)

    def _arm(self, arm: str, seed: int | None, file: str) -> Path:
        """Return the folder of an arm and seed, after checking that it has a file."""
        folder = self.folder / "arms" / arm
        folder = folder if seed is None or (folder / file).is_file() else folder / f"seed-{seed}"
        if not (folder / file).is_file():
            names = sorted(each.parent.relative_to(self.folder / "arms").as_posix() for each in self._files(file))
            raise RunError(
                f"{self.folder} has no {file} of {arm!r}" + ("." if seed is None else f" with seed {seed}."),
                f"Choose from {', '.join(names)}; a name with /seed-N is the arm with seed=N.",
            )
        return folder

    def _files(self, file: str) -> list[Path]:
        return [*(self.folder / "arms").glob(f"*/{file}"), *(self.folder / "arms").glob(f"*/seed-*/{file}")]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, ready to predict. Research software, not a medical device.

    Attributes:
        applied: The model with its weights on a device.
    """

    applied: AppliedModel

    @property
    def threshold(self) -> float | None:
        """The calibrated probability of malignant from which an image is above the threshold; None without one."""
        calibration = self.applied.folder.facts.calibration
        return calibration.threshold if calibration else None

    def predict(self, images: Sequence[Picture]) -> NDArray[np.float64]:
        """Compute calibrated class probabilities.

        Args:
            images: Grey images, uint8 [H, W] of any size, or paths of image files.

        Returns:
            float64 [N, 3], in the order of `CLASSES`; rows sum to 1. A model without calibration returns the
            probabilities of its training.

        Raises:
            ImageError: If a file can't be decoded.
            SettingsError: If an array is not a grey image.
        """
        facts = self.applied.folder.facts
        found = self.applied.predict(_prepare(images, facts.image_size, masked=facts.burned_in == "masked"))
        return facts.calibration.apply(found) if facts.calibration else found


def load_run(folder: str | Path) -> Run:
    """Load a finished comparison.

    Raises:
        RunError: If the folder contains no finished run.
    """
    return Run(Path(folder), read_json(Path(folder) / RESULTS_FILE))


def load_model(
    folder: str | Path, site: str | None = None, images: Sequence[Picture] | None = None, device: str = "auto"
) -> Model:
    """Load a model: an arm of a run (`RUN/arms/ARM`), a folder that a site received, or an exported bundle.

    Args:
        folder: The model folder.
        site: A site of the training whose own arrays are used; None: the model for everywhere else.
        images: Unlabelled images of the place where it is applied; needed only if the model has BatchNorm statistics
            only for its own sites, and `site` is None. At least 32.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        RunError: If the folder is not a model folder or is damaged, the site is not known, or images are needed.
    """
    found = read_model(Path(folder))
    masked = found.facts.burned_in == "masked"
    pixels = None if images is None else _prepare(images, found.facts.image_size, masked=masked)
    return Model(open_model(found, site, pixels, device))


def _prepare(images: Sequence[Picture], size: int, *, masked: bool) -> NDArray[np.uint8]:
    """Decode and resize images as training does: uint8 [N, size, size]."""
    given = [images] if isinstance(images, str | Path) else images
    prepared = np.empty((len(given), size, size), dtype=np.uint8)
    for row, image in enumerate(given):
        prepared[row] = prepare_image(_grey(image), size, masked=masked)
    return prepared


def _grey(image: Picture) -> Image.Image:
    if isinstance(image, str | Path):
        return decode_image(Path(image))
    if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
        raise SettingsError(
            f"An image has the shape {image.shape} and the type {image.dtype}.", "Give grey images, uint8 [H, W]."
        )
    return Image.fromarray(image)


def _interval(figure: dict[str, float]) -> dict[str, float]:
    return {key: figure[key] for key in ("value", "low", "high")}


def _columns(rows: Sequence[dict[str, Any]]) -> Columns:
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
