"""The main job: hospitals alone, pooled, and federated, on the same rows with the same steps, in one table."""

from datetime import datetime
from pathlib import Path

from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.evaluation.predictions import Predictions
from fedbus.models.input_size import check_input_size
from fedbus.models.start import start_state
from fedbus.reports.comparison.results import RESULTS_FILE, write_results
from fedbus.reports.comparison.tables import comparison_table, recall_table
from fedbus.runs.folder import check_run, check_same_start, record_run
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from simulations.arm import Arm, list_arms
from simulations.precision import resolve_precision
from simulations.progress import ArmProgress
from simulations.results import gather, sample_pictures
from simulations.scoring import score_arm
from simulations.train_arms import run_arms


def default_out() -> Path:
    """A new folder named after the time."""
    return Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"


def compare(settings: Settings, out: Path, *, resume: bool, console: Console) -> Path:
    """Run a study from archives to report, and print its tables.

    Returns:
        The path of the report page.

    Raises:
        FedbusError: bad input, before anything is trained; or an arm that failed, with the finished ones kept.
    """
    settings = asked = resolve_precision(settings)
    check_run(out, settings, resume=resume)
    check_input_size(settings.model, settings.image_size)
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    settings = resolve_sites(settings)
    phantoms = any(source.reader == "phantoms" for source in settings.sites.values())
    if phantoms:
        console.print("These hospitals are phantoms, synthetic pictures: no figure says anything about patients.")
    with ArmProgress(console, len(settings.seeds)) as progress:
        sites = prepare_sites(settings, out, progress=progress.decoding)
        for name, site in sites.items():
            _say_missing_classes(name, site, settings, progress)
        check_same_start(starts, out)
        record_run(out, asked)  # only now: nothing is left behind by weights or archives that can't be used
        run_arms(settings, out, sites, starts, progress)
        progress.note("scoring the test rows")
        runs: dict[str, list[tuple[Arm, Predictions]]] = {}
        for arm in list_arms(settings, out):
            runs.setdefault(arm.name, []).append((arm, score_arm(arm, settings, sites)))
        results = gather(settings, out, sites, runs, phantoms=phantoms)
    histories = {name: pairs[0][0].folder.read_history() for name, pairs in runs.items()}
    report = write_results(results, histories, sample_pictures(sites), out)
    console.print(comparison_table(results))
    console.print(recall_table(results))
    console.print(f"Report: {report}   figures: {out / RESULTS_FILE}", markup=False, soft_wrap=True)
    return report


def _say_missing_classes(name: str, site: Site, settings: Settings, progress: ArmProgress) -> None:
    """A class that a site lacks can't be balanced into being, and its loss treats it by a policy that has a name."""
    labels = site.labels[site.splits["train"]]
    missing = [label for index, label in enumerate(CLASSES) if not (labels == index).any()]
    if missing:
        progress.note(f"{name} has no {' and no '.join(missing)} images (missing-classes = {settings.missing_classes})")
