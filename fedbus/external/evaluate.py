"""`fedbus evaluate`: one or several models on a labelled dataset that took no part in their training."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from fedbus.datasets.registry import check_folder
from fedbus.errors import RunError, SettingsError
from fedbus.evaluation.predictions import Predictions
from fedbus.external.apply import predict_outside
from fedbus.external.dataset import read_outside
from fedbus.external.models import GivenModel, read_models
from fedbus.external.overlap import find_overlap, refuse_overlap
from fedbus.external.results import assemble_evaluation
from fedbus.reports.external.page import write_page
from fedbus.reports.external.summary import cautions
from fedbus.reports.external.tables import classes_table, differences_table, models_table
from fedbus.runs.folder import is_run
from fedbus.runs.lock import hold_folder, is_unused
from fedbus.settings.load import build_settings, parse_sites
from fedbus.settings.schema import SiteSource
from fedbus.system.files import write_json
from fedbus.system.terminal import advance_task, progress_bar
from fedbus.text import NOT_A_DEVICE

EVALUATION_FILE, RUN_FILE, PAGE_FILE = "evaluation.json", "run.json", "report.html"


def evaluate(
    paths: Sequence[Path],
    dataset: str,
    out: Path | None,
    console: Console,
    *,
    site: str | None = None,
    leave_out_seen: bool = False,
    adapt: bool = True,
) -> Path:
    """Apply models to a dataset, print the tables and write the report.

    Args:
        paths: Model folders; the first model is compared with each of the others.
        dataset: `READER=FOLDER` or `NAME=READER:FOLDER`.
        out: Folder of report, figures and predictions, new or empty; None: see `default_out`.
        console: Prints notes, progress and tables.
        site: The site of the models as which the dataset is evaluated; None: as a place that no model knows.
        leave_out_seen: Leave out images that a model was trained or chosen on, instead of refusing the dataset.
        adapt: Whether BatchNorm statistics may be estimated from the dataset's images where a model has none for it.

    Returns:
        The folder.

    Raises:
        FedbusError: If a model, the dataset or the folder can't be used; nothing has been written then.
    """
    ((name, source),) = build_settings({"sites": parse_sites([dataset])}, "--site").sites.items()
    models = read_models(paths, site, adapt=adapt)
    check_folder(source.reader, source.path, name)
    folder = out or default_out(paths[0], name)
    with hold_folder(folder, lambda: _check_out(folder, source)):
        results, predictions = _evaluate(models, name, source, console, site, leave_out_seen=leave_out_seen)
        _write(folder, models, predictions, results)
    console.print(models_table(results))
    console.print(classes_table(results))
    if results["differences"]:
        console.print(differences_table(results))
    for text in (*cautions(results), NOT_A_DEVICE):
        console.print(text, markup=False, highlight=False)
    report = shlex.quote(str(folder / PAGE_FILE))
    console.print(f"Report: {report}   figures: {folder / EVALUATION_FILE}", markup=False, soft_wrap=True)
    console.print(f"Next: open {report} in a browser.", markup=False, highlight=False, soft_wrap=True)
    return folder


def default_out(model: Path, name: str) -> Path:
    """Name a new folder: in the run of a model, where `fedbus card` finds it; for other models, in the current one."""
    run = next((parent for parent in model.resolve().parents if is_run(parent)), Path())
    return run / "evaluations" / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _evaluate(
    models: Sequence[GivenModel],
    name: str,
    source: SiteSource,
    console: Console,
    site: str | None,
    *,
    leave_out_seen: bool,
) -> tuple[dict[str, Any], dict[str, list[Predictions]]]:
    """Return the results and the predictions of each model's seeds."""
    with progress_bar(console) as bar:
        dataset = read_outside(name, source, models, lambda title, count: advance_task(bar, title, count))
        overlap = find_overlap(dataset, models)
        if not leave_out_seen:
            refuse_overlap(dataset, overlap)
        tested = [row for row in dataset.loaded.grouped.kept if row not in overlap.left_out]
        if not tested:
            raise RunError(
                f"No image of {source.path} is left: the models know all of them from their training.",
                "Use a dataset that took no part in the training.",
            )
        passes = sum(len(model.seeds) for model in models)
        advance = advance_task(bar, f"predict {name}", passes * len(tested))
        predictions = predict_outside(dataset, models, tested, site, advance)
        return assemble_evaluation(dataset, models, predictions, overlap, site), predictions


def _check_out(folder: Path, source: SiteSource) -> None:
    """Refuse a folder that is in use, or in the dataset.

    Raises:
        RunError: If it is not empty.
        SettingsError: If it is inside the dataset.
    """
    if folder.resolve().is_relative_to(source.path.resolve()):
        raise SettingsError(f"--out {folder} is inside the dataset {source.path}.", "Choose a folder outside of it.")
    if not is_unused(folder):
        raise RunError(f"{folder} is not empty.", "Choose another --out, or delete the folder.")


def _write(
    folder: Path,
    models: Sequence[GivenModel],
    predictions: dict[str, list[Predictions]],
    results: dict[str, Any],
) -> None:
    """Write all files; `run.json` last, so that a folder that has it is complete."""
    try:
        for model in models:
            for file_name, seed in zip(model.file_names, predictions[model.name], strict=True):
                path = folder / f"predictions-{file_name}.csv"
                while path.exists():  # names that differ only in signs that a file's name leaves out
                    path = path.with_stem(f"{path.stem}-2")
                seed.to_csv(path)
        write_json(folder / EVALUATION_FILE, results)
        write_page(results, folder / PAGE_FILE)
        keys = ("note", "created", "command", "versions", "machine", "as", "models")
        write_json(folder / RUN_FILE, {key: results[key] for key in keys} | {"dataset": _digests(results)})
    except BaseException:
        for path in (*folder.glob("predictions-*.csv"), folder / EVALUATION_FILE, folder / PAGE_FILE):
            path.unlink(missing_ok=True)  # half an evaluation is none, and the folder was empty
        raise


def _digests(results: dict[str, Any]) -> dict[str, str]:
    return {name: facts["digest"] for name, facts in results["sites"].items()}
