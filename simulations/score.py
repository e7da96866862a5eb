"""`fedbus score`: how well the models of a comparison travel to a site that took no part in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from fedbus.errors import RunError
from fedbus.evaluation.predictions import Predictions
from fedbus.reports.unseen_site import differences_table, scores_table
from fedbus.runs.folder import is_run, read_settings
from fedbus.runs.lock import hold_folder
from fedbus.settings.load import build_settings, parse_sites
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.site import read_facts
from fedbus.sites.unseen_site import UnseenSite, prepare_unseen_site
from fedbus.system.files import delete_fragments, write_json
from fedbus.system.progress import Progress
from fedbus.system.terminal import advance_task, progress_bar
from simulations.arm import Arm, list_arms
from simulations.compare import PHANTOM_NOTE
from simulations.precision import resolve_precision
from simulations.unseen_models import AS_TRAINED, BATCH_NORMS, predict_unseen
from simulations.unseen_scores import assemble_scores

SCORES_FILE = "scores.json"


def score(run: Path, site: str, out: Path | None, console: Console) -> Path:
    """Apply every finished arm of a run to a site that took no part in it, and print its tables.

    Args:
        run: Folder of a comparison, finished or not.
        site: The new site, `READER=FOLDER` or `NAME=READER:FOLDER`.
        out: Folder of figures and predictions; None: `RUN/scores/NAME`.
        console: Prints notes, progress and tables.

    Returns:
        The path of `scores.json`.

    Raises:
        FedbusError: If the run has no finished arm, or the site can't be used, before anything is written; or if
            weights are damaged.
    """
    settings = read_run(run)
    arms, skipped = choose_arms(settings, run)
    ((name, source),) = build_settings({"sites": parse_sites([site])}, "--site").sites.items()
    facts = read_facts(run)
    phantoms = "phantoms" in {source.reader, *(each["reader"] for each in facts.values())}
    if phantoms:
        console.print(PHANTOM_NOTE)
    with progress_bar(console) as bar:
        unseen = prepare_unseen_site(
            name, source, run, settings, lambda title, count: advance_task(bar, f"read {title}", count)
        )
        for note in (*_left_out(unseen), *(f"{arm} is not scored: {why}" for arm, why in skipped.items())):
            console.print(note, style="dim", markup=False, highlight=False)
        folder = out or run / "scores" / name
        passes = len(BATCH_NORMS) * sum(len(seeds) for seeds in arms.values())
        advance = advance_task(bar, f"score on {name}", passes * len(unseen.site.splits["test"]))
        with hold_folder(folder):
            delete_fragments(folder)
            runs = _predict(arms, settings, list(facts), unseen, folder, advance)
            results = assemble_scores(runs, unseen, settings, list(facts), skipped, phantoms=phantoms)
            write_json(folder / SCORES_FILE, results)
    console.print(scores_table(results))
    if results["differences"]:
        console.print(differences_table(results))
    console.print(f"Figures: {folder / SCORES_FILE}", markup=False, highlight=False, soft_wrap=True)
    return folder / SCORES_FILE


def read_run(run: Path) -> Settings:
    """Read the settings of a run as its arms were trained with.

    Raises:
        RunError: If the folder contains no run, or its settings are damaged.
        SettingsError: If a value is not valid.
    """
    if not is_run(run):
        raise RunError(f"{run} contains no run.", "Name the folder that `fedbus compare` was called with as --out.")
    return resolve_sites(resolve_precision(read_settings(run)))


def choose_arms(settings: Settings, run: Path) -> tuple[dict[str, list[Arm]], dict[str, str]]:
    """Choose the arms that have one model for every site.

    Returns:
        The finished arms by name, one per seed, and why each of the other arms is skipped.

    Raises:
        RunError: If no such arm is finished.
    """
    chosen: dict[str, list[Arm]] = {}
    for arm in list_arms(settings, run):
        chosen.setdefault(arm.name, []).append(arm)
    skipped = {name: why for name, seeds in chosen.items() if (why := _why_skipped(seeds))}
    arms = {name: seeds for name, seeds in chosen.items() if name not in skipped}
    if not arms:
        raise RunError(
            f"{run} has no finished arm with one model for every site.",
            "Finish the run first: rerun its `fedbus compare` command with --resume.",
        )
    return arms, skipped


def _why_skipped(seeds: Sequence[Arm]) -> str:
    """Describe why an arm can't be scored at a new site; empty if it can."""
    if seeds[0].tuned:
        return "its models are fine-tuned, each for one site of the run."
    if seeds[0].blended:
        return "it blends in the own model of each site, and the new site has none."
    return "" if all(arm.folder.finished for arm in seeds) else "it is not finished."


def _left_out(unseen: UnseenSite) -> list[str]:
    """Describe which images are not tested."""
    name = unseen.site.name
    notes = [
        f"{count} images of {name} are left out: {site} has near-duplicates of them, or the same patients."
        for site, count in unseen.in_run.items()
    ]
    if unseen.conflicting:
        notes.append(f"{unseen.conflicting} images of {name} are left out: identical images have other labels.")
    return notes


def _predict(
    arms: Mapping[str, Sequence[Arm]],
    settings: Settings,
    sites: Sequence[str],
    unseen: UnseenSite,
    folder: Path,
    progress: Progress,
) -> dict[str, dict[str, list[Predictions]]]:
    """Predict with all arms and write their predictions; by arm and `BATCH_NORMS`, one for each seed."""
    found: dict[str, dict[str, list[Predictions]]] = {}
    for name, seeds in arms.items():
        for arm in seeds:
            for batch_norm, predictions in predict_unseen(arm, settings, sites, unseen.site, progress).items():
                parts = [name, *([f"seed-{arm.seed}"] if len(seeds) > 1 else [])]
                parts += [] if batch_norm == AS_TRAINED else [batch_norm]
                predictions.to_csv(folder / f"predictions-{'-'.join(parts)}.csv")
                found.setdefault(name, {}).setdefault(batch_norm, []).append(predictions)
    return found
