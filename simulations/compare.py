"""`fedbus compare`: train each site alone, centralised and federated, with equal work, and report the results."""

from datetime import datetime
from pathlib import Path

from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.datasets.registry import check_folder
from fedbus.evaluation.predictions import Predictions
from fedbus.models.input_size import check_input_size
from fedbus.models.start import start_state
from fedbus.privacy.model_check import check_private_model
from fedbus.reports.calibration import missing_thresholds
from fedbus.reports.claims import terminal_claims
from fedbus.reports.comparison.few_sites import few_sites
from fedbus.reports.comparison.results import RESULTS_FILE, write_results
from fedbus.reports.comparison.tables import comparison_table, recall_table
from fedbus.runs.folder import check_same_start, open_run
from fedbus.seeds import derive_seed
from fedbus.settings.privacy_rules import check_secure_sites
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site, site_notes
from fedbus.system.files import delete_fragments
from fedbus.tracking.tracker import check_tracking, open_tracker
from server.rounds.robust import check_robust_arms
from simulations.arm import Arm, list_arms
from simulations.calibration import measure_calibrations
from simulations.membership import audit_membership
from simulations.model_folders import write_model_folders
from simulations.precision import resolve_precision
from simulations.progress import ArmProgress
from simulations.results import gather, sample_images
from simulations.scoring import score_arm
from simulations.train_arms import run_arms

PHANTOM_NOTE = "These hospitals are phantoms, synthetic images: no figure says anything about patients."


def default_out() -> Path:
    """Name a new run folder after the current time."""
    return Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"


def compare(settings: Settings, out: Path, *, resume: bool, console: Console) -> Path:
    """Run a comparison from datasets to report, and print its tables.

    Args:
        settings: The settings; without sites, three synthetic ones (phantoms) are used.
        out: The run folder.
        resume: Continue the run in `out`.
        console: Prints notes, progress and tables.

    Returns:
        The path of the report page.

    Raises:
        FedbusError: If the input can't be used, before anything is trained; or if an arm fails.
        KeyboardInterrupt: On Ctrl-C; finished rounds are kept.
    """
    settings = resolve_precision(settings)
    check_tracking(settings)
    with open_run(out, settings, resume=resume):
        return _compare(settings, out, resume=resume, console=console)


def _compare(settings: Settings, out: Path, *, resume: bool, console: Console) -> Path:
    """Do what `compare` does, in a run folder that no other process uses."""
    delete_fragments(out)
    check_input_size(settings.model, settings.image_size)
    check_private_model(settings)
    if not resume:  # a resumed run checks its datasets against the frozen rows
        for name, source in settings.sites.items():
            check_folder(source.reader, source.path, name)  # before weights are downloaded
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    settings = resolve_sites(settings)
    check_robust_arms(settings, len(settings.sites))
    check_secure_sites(settings.privacy, len(settings.sites))
    phantoms = any(source.reader == "phantoms" for source in settings.sites.values())
    if phantoms:
        console.print(PHANTOM_NOTE)
    with (
        ArmProgress(console, len(settings.seeds)) as progress,
        open_tracker(settings, out, progress.note, phantoms) as tracker,
    ):
        sites = prepare_sites(settings, out, progress=progress.decoding)
        for note in site_notes(out):
            progress.note(note)
        for name, site in sites.items():
            _note_missing_classes(name, site, settings, progress)
        check_same_start(starts, out)
        run_arms(settings, out, sites, starts, progress, tracker)
        progress.note("scoring the test rows")
        runs: dict[str, list[tuple[Arm, Predictions]]] = {}
        for arm in list_arms(settings, out):
            runs.setdefault(arm.name, []).append((arm, score_arm(arm, settings, sites)))
        write_model_folders(settings, out, sites, phantoms=phantoms)
        calibration = measure_calibrations(settings, sites, runs)
        for note in missing_thresholds(calibration):
            progress.note(note)
        results = gather(settings, out, sites, runs, phantoms=phantoms) | {
            "calibration": calibration,
            "membership": audit_membership(settings, sites, runs),
        }
        from simulations.explained_examples import explained_examples  # late: Grad-CAM's library takes seconds

        examples = explained_examples(settings, out, sites, runs)
        tracker.results(results)
    histories = {name: pairs[0][0].folder.read_history() for name, pairs in runs.items()}
    report = write_results(results, histories, sample_images(sites), out, examples)
    console.print(comparison_table(results))
    console.print(recall_table(results))
    if said := terminal_claims(few_sites(results)):
        console.print(said, markup=False, highlight=False)
    console.print(f"Report: {report}   figures: {out / RESULTS_FILE}", markup=False, soft_wrap=True)
    return report


def _note_missing_classes(name: str, site: Site, settings: Settings, progress: ArmProgress) -> None:
    """Name the classes that a site lacks, and the policy by which its loss treats them: balancing can't add them."""
    labels = site.labels[site.splits["train"]]
    missing = [label for index, label in enumerate(CLASSES) if not (labels == index).any()]
    if missing:
        progress.note(f"{name} has no {' and no '.join(missing)} images (missing-classes = {settings.missing_classes})")
