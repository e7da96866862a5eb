"""The commands as functions of `fedbus.api`; they raise `FedbusError` where the command prints an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from fedbus.cards.card import write_card
from fedbus.errors import SettingsError
from fedbus.external.evaluate import EVALUATION_FILE
from fedbus.external.evaluate import evaluate as evaluate_models
from fedbus.predict.predict import PREDICTIONS_FILE, predict_paths
from fedbus.system.csv_file import read_csv
from fedbus.system.files import read_json

Columns = dict[str, list[Any]]
"""A table as columns of equal length, from which a data frame can be made."""

PathLike = str | Path


def _paths(given: PathLike | Sequence[PathLike]) -> list[Path]:
    """Return paths; a single one would otherwise be read letter by letter."""
    return [Path(given)] if isinstance(given, PathLike) else [Path(path) for path in given]


def evaluate(
    models: PathLike | Sequence[PathLike],
    dataset: str,
    out: PathLike | None = None,
    *,
    site: str | None = None,
    leave_out_seen: bool = False,
    adapt: bool = True,
) -> dict[str, Any]:
    """Evaluate models on a labelled dataset that took no part in their training, as `fedbus evaluate`.

    Args:
        models: Model folders; the first one is compared with each of the others.
        dataset: `READER=FOLDER` or `NAME=READER:FOLDER`.
        out: New folder of report, figures and predictions; None: as the command.
        site: A site of the training, as which the models are applied; None: as elsewhere.
        leave_out_seen: Leave out images that a model knows from its training, instead of refusing the dataset.
        adapt: Whether BatchNorm statistics may be estimated from the dataset's images where a model needs it.

    Returns:
        The content of `evaluation.json`.

    Raises:
        FedbusError: If a model, the dataset or the folder can't be used.
    """
    folder = evaluate_models(
        _paths(models), dataset, Path(out) if out else None, Console(quiet=True),
        site=site, leave_out_seen=leave_out_seen, adapt=adapt,
    )  # fmt: skip
    return read_json(folder / EVALUATION_FILE)


def card(run: PathLike, out: PathLike | None = None) -> Path:
    """Write the model card and the reporting checklists of a finished run, as `fedbus card`; return their folder.

    Raises:
        RunError: If the folder contains no finished run.
    """
    return write_card(Path(run), Path(out) if out else None, Console(quiet=True))


def predict(
    model: PathLike, paths: PathLike | Sequence[PathLike], out: PathLike, *, site: str | None = None
) -> Columns:
    """Predict the images of files and folders, as `fedbus predict`.

    Args:
        model: A model folder.
        paths: Files, and folders that are searched at every depth.
        out: New folder of the results, outside of the folders with images.
        site: A site of the training, as which the model is applied; None: as elsewhere.

    Returns:
        The columns of `predictions.csv`, all as text.

    Raises:
        FedbusError: If the model or a path can't be used, or no image was found.
    """
    predict_paths(Path(model), _paths(paths), site, Path(out), Console(quiet=True))
    header, *rows = read_csv((Path(out) / PREDICTIONS_FILE).read_text(encoding="utf-8"))
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def explain(
    model: PathLike, images: PathLike | Sequence[PathLike], out: PathLike, *, site: str | None = None
) -> dict[str, Any]:
    """Map where a model looked in each image (Grad-CAM), as `fedbus explain`.

    Args:
        model: A model folder.
        images: Image files; `scan.dcm#12` is the twelfth frame of a DICOM file.
        out: New folder of pictures and maps, outside of the folders with images.
        site: A site of the training, as which the model is applied; None: as elsewhere.

    Returns:
        The content of `explanations.json`.

    Raises:
        FedbusError: If the model or an image can't be used, or the backbone has no layer with positions.
    """
    from fedbus.explain.pictures import explain_pictures  # late: Grad-CAM's library takes seconds

    return read_json(explain_pictures(Path(model), _paths(images), site, Path(out), Console(quiet=True)))


def measure_focus(run: PathLike, out: PathLike | None = None) -> dict[str, Any]:
    """Measure how much of the maps' energy is inside lesion masks, as `fedbus explain RUN --masks`.

    Args:
        run: Folder of a finished comparison on datasets with masks.
        out: Folder of `focus.json`; None: in the run folder.

    Returns:
        The content of `focus.json`.

    Raises:
        FedbusError: If the run has no models or no masks, or the backbone has no layer with positions.
    """
    from fedbus.explain.focus import measure_focus as measure_focus_of_run

    return read_json(measure_focus_of_run(Path(run), Path(out) if out else None, Console(quiet=True)))


def export(
    model: PathLike,
    form: Literal["onnx", "torchscript"],
    out: PathLike,
    *,
    site: str | None = None,
    images: PathLike | Sequence[PathLike] = (),
) -> float:
    """Export a model to a bundle that runs without FedBUS, as `fedbus export`.

    Args:
        model: A model folder.
        form: The file's format.
        out: New folder of the bundle.
        site: A site of the training whose arrays are used; None: the shared ones.
        images: Files and folders with images for the comparison with PyTorch; by default those of the run.

    Returns:
        The largest absolute difference of a probability from PyTorch's, at most 1e-4.

    Raises:
        FedbusError: If the model can't be exported, or the difference is larger; nothing is left then.
    """
    from fedbus.export.export import export_model  # late: it loads ONNX

    if form not in ("onnx", "torchscript"):
        raise SettingsError(f"There is no format {form!r}.", "Use onnx or torchscript.")
    return export_model(Path(model), form, site, Path(out), _paths(images)).largest_difference
