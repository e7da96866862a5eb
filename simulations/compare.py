"""The main job: hospitals alone, pooled, and federated, on the same rows with the same steps, in one table."""

from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from fedbus.errors import RunError
from fedbus.evaluation import Predictions
from fedbus.files import write_json
from fedbus.reports.page import write_report
from fedbus.reports.tables import comparison_table, recall_table
from fedbus.runs import open_run
from fedbus.sites import SITES_FILE, prepare_sites, read_facts, resolve_sites
from fedbus.study import Study
from simulations.arms import Arm, list_arms, run_arms
from simulations.progress import ArmProgress
from simulations.results import gather, sample_pictures
from simulations.scoring import score_arm

DEFAULT_STUDY = Path(__file__).parent / "studies" / "phantoms.toml"
"""What runs where no study and no site is named."""


def default_out() -> Path:
    """A new folder named after the time."""
    return Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"


def compare(study: Study, out: Path, *, resume: bool, console: Console) -> Path:
    """Run a study from archives to report, and print its tables.

    Returns:
        The path of the report page.

    Raises:
        FedbusError: bad input, before anything is trained; or an arm that failed, with the finished ones kept.
    """
    phantoms = not study.sites
    open_run(out, study, resume=resume)
    if phantoms:
        console.print("No --site given: three synthetic hospitals (phantoms). No figure says anything about patients.")
        study = resolve_sites(study)
    with ArmProgress(console, len(study.seeds)) as progress:
        before = read_facts(out) if (out / SITES_FILE).is_file() else None
        sites = prepare_sites(study, out, progress=progress.decoding)
        _check_same_data(before, out)
        run_arms(study, out, sites, progress)
        progress.note("scoring the test rows")
        runs: dict[str, list[tuple[Arm, Predictions]]] = {}
        for arm in list_arms(study, out):
            runs.setdefault(arm.name, []).append((arm, score_arm(arm, study, sites)))
        results = gather(study, out, sites, runs, phantoms=phantoms)
    write_json(out / "results.json", results)
    histories = {name: pairs[0][0].folder.read_history() for name, pairs in runs.items()}
    report = out / "report.html"
    write_report(results, histories, sample_pictures(sites), report)
    console.print(comparison_table(results))
    console.print(recall_table(results))
    console.print(f"Report: {report}   figures: {out / 'results.json'}")
    return report


def _check_same_data(before: dict[str, Any] | None, out: Path) -> None:
    """A resumed run must go on with the rows that it began with; where their decoded copies lie may change."""
    if before is not None and _without_places(before) != _without_places(read_facts(out)):
        write_json(out / SITES_FILE, before)
        raise RunError(
            f"The archives are no longer what they were when {out} was started.",
            "Bring the old files back, or choose another --out.",
        )


def _without_places(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: fact for key, fact in site.items() if key != "pixels"} for name, site in facts.items()}
