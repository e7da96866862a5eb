"""Train the arms of a comparison: which rows each trains on, and for how many steps, so that all do equal work."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedbus.device import pick_device
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_state import forget_optimisers
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.system.allocator import release_freed_memory
from fedbus.tracking.tracker import Tracker
from fedbus.training.rows import TrainingRows, federation_rows, pooled_rows, site_rows
from server.rounds.job import Job
from simulations.arm import Arm, list_arms
from simulations.blending import finish_blended
from simulations.fine_tuning import fine_tune_arm
from simulations.in_process import InProcessTraining
from simulations.local_training import LocalTraining, centralised_steps
from simulations.progress import ArmProgress


def run_arms(
    settings: Settings,
    out: Path,
    sites: Mapping[str, Site],
    starts: Mapping[int, State],
    progress: ArmProgress,
    tracker: Tracker,
) -> None:
    """Train every arm that is not finished.

    Arms that train in one place come first, then all federated arms in one simulation, since starting one takes about
    ten seconds; last the fine-tuned arms, which continue from the federated ones. Blended arms need no training.

    Args:
        settings: The settings.
        out: The run folder.
        sites: The prepared sites, by name.
        starts: The weights that all arms of a seed start from, by seed.
        progress: The terminal's progress bars.
        tracker: Where the figures of every round are also sent.

    Raises:
        FedbusError: If an arm fails; its finished rounds are kept for --resume.
        KeyboardInterrupt: On Ctrl-C.
    """
    arms = list_arms(settings, out)
    unfinished = [arm for arm in arms if not arm.folder.finished]
    _catch_up(tracker, arms, sites)
    stop = threading.Event()
    jobs = []
    for seed in settings.seeds:
        of_seed = [arm for arm in unfinished if arm.seed == seed]
        if not of_seed:
            continue
        start = starts[seed]
        rows = _load_rows(settings, sites, seed)
        for arm in of_seed:
            if not arm.federated and not arm.tuned and not arm.blended:
                _train_locally(arm, settings, sites, rows, start, progress, tracker)
        if settings.engine == "in-process":
            for arm in (arm for arm in of_seed if arm.federated):
                _train_in_process(arm, settings, sites, rows, start, progress, tracker)
        else:
            jobs += [_make_job(arm, settings, rows, start, progress, stop, tracker) for arm in of_seed if arm.federated]
    if jobs:
        progress.note("starting the simulation")
        from simulations.flower_simulation import simulate  # takes seconds, which local arms need not wait for

        torch.cuda.empty_cache()  # the workers share GPU and memory with this process
        release_freed_memory()
        simulate(settings, out, jobs, stop)
    for arm in (arm for arm in arms if arm.federated):  # of an earlier call, too, which may have ended before this line
        forget_optimisers(out, arm.title)
    for arm in (arm for arm in unfinished if arm.tuned):
        fine_tune_arm(arm, settings, out, sites, _load_rows(settings, sites, arm.seed), progress, tracker)
    for arm in (arm for arm in unfinished if arm.blended):
        finish_blended(arm, settings)
    _catch_up(tracker, arms, sites)


def _catch_up(tracker: Tracker, arms: Sequence[Arm], sites: Iterable[str]) -> None:
    """Send the rounds of earlier calls, and the last validation scores of every arm."""
    for arm in arms:
        tracker.catch_up(arm.name, arm.seed, arm.folder.read_history)
        if arm.tuned:
            for site in sites:
                tracker.catch_up(f"{arm.name}-{site}", arm.seed, ArmFolder(arm.folder.path / site).read_history)


def _load_rows(settings: Settings, sites: Mapping[str, Site], seed: int) -> dict[str, TrainingRows]:
    """Load the rows that each site trains on in the federation."""
    device, federation = pick_device(settings.device), federation_rows(settings, sites, seed)
    return {name: site_rows(site, settings, seed, device, federation) for name, site in sites.items()}


def _train_locally(
    arm: Arm,
    settings: Settings,
    sites: Mapping[str, Site],
    rows: Mapping[str, TrainingRows],
    start: State,
    progress: ArmProgress,
    tracker: Tracker,
) -> None:
    if arm.name == "centralised":
        validation, count = list(sites.values()), centralised_steps(settings, rows)
        training = pooled_rows(validation, settings, arm.seed, pick_device(settings.device))
    else:
        site = sites[arm.name.removeprefix("local-")]
        validation, training = [site], site_rows(site, settings, arm.seed, pick_device(settings.device))
        count = training.steps_per_round(settings)
    with progress.arm(arm.name, arm.seed, count * settings.rounds * settings.batch_size) as advance:
        LocalTraining(settings, arm.seed, training, validation, count, start).run(
            arm.folder, advance, tracker.follow(arm.name, arm.seed)
        )


def _make_job(
    arm: Arm,
    settings: Settings,
    rows: Mapping[str, TrainingRows],
    start: State,
    progress: ArmProgress,
    stop: threading.Event,
    tracker: Tracker,
) -> Job:
    on_round = _round_reporter(arm, settings, rows, progress, tracker)
    return Job(settings, arm.name, arm.seed, start, arm.folder, title=arm.title, on_round=on_round, stop=stop)


def _train_in_process(
    arm: Arm,
    settings: Settings,
    sites: Mapping[str, Site],
    rows: Mapping[str, TrainingRows],
    start: State,
    progress: ArmProgress,
    tracker: Tracker,
) -> None:
    training = InProcessTraining(settings, arm.out, sites, rows, arm.name, arm.seed, start, arm.folder, arm.title)
    training.run(_round_reporter(arm, settings, rows, progress, tracker))


def _round_reporter(
    arm: Arm, settings: Settings, rows: Mapping[str, TrainingRows], progress: ArmProgress, tracker: Tracker
) -> Callable[[dict[str, Any]], object]:
    """Start the progress bar of a federated arm, and return what to call after every round."""
    images = centralised_steps(settings, rows) * settings.batch_size
    show, track = progress.rounds(arm.name, arm.seed, images, settings.rounds), tracker.follow(arm.name, arm.seed)

    def on_round(line: dict[str, Any]) -> None:
        show(line)
        track(line)

    return on_round
