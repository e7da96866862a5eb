"""Train the arms of a comparison: which rows each trains on, and for how many steps, so that all do equal work."""

import threading
from collections.abc import Mapping
from pathlib import Path

import torch

from fedbus.device import pick_device
from fedbus.models.state import State
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.training.rows import TrainingRows, pooled_rows, site_rows
from server.rounds.loop import Job
from simulations.arm import Arm, list_arms
from simulations.blending import finish_blended
from simulations.fine_tuning import fine_tune_arm
from simulations.flower_simulation import simulate
from simulations.local_training import LocalTraining
from simulations.progress import ArmProgress


def run_arms(
    settings: Settings, out: Path, sites: Mapping[str, Site], starts: Mapping[int, State], progress: ArmProgress
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

    Raises:
        FedbusError: If an arm fails; its finished rounds are kept for --resume.
        KeyboardInterrupt: On Ctrl-C.
    """
    unfinished = [arm for arm in list_arms(settings, out) if not arm.folder.finished]
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
                _train_locally(arm, settings, sites, rows, start, progress)
        jobs += [_make_job(arm, settings, rows, start, progress, stop) for arm in of_seed if arm.federated]
    if jobs:
        torch.cuda.empty_cache()  # the workers share the GPU with this process
        progress.note("starting the simulation")
        simulate(settings, out, jobs, stop)
    for arm in (arm for arm in unfinished if arm.tuned):
        fine_tune_arm(arm, settings, out, sites, _load_rows(settings, sites, arm.seed), progress)
    for arm in (arm for arm in unfinished if arm.blended):
        finish_blended(arm, settings)


def steps_per_round(settings: Settings, rows: Mapping[str, TrainingRows]) -> dict[str, int]:
    """Optimiser steps per round of each site; the centralised arm takes their sum."""
    return {name: site.steps_per_round(settings) for name, site in rows.items()}


def _load_rows(settings: Settings, sites: Mapping[str, Site], seed: int) -> dict[str, TrainingRows]:
    return {name: site_rows(site, settings, seed, pick_device(settings.device)) for name, site in sites.items()}


def _train_locally(
    arm: Arm,
    settings: Settings,
    sites: Mapping[str, Site],
    rows: Mapping[str, TrainingRows],
    start: State,
    progress: ArmProgress,
) -> None:
    steps = steps_per_round(settings, rows)
    if arm.name == "centralised":
        validation, count = list(sites.values()), sum(steps.values())
        training = pooled_rows(validation, settings, arm.seed, pick_device(settings.device))
    else:
        name = arm.name.removeprefix("local-")
        validation, count, training = [sites[name]], steps[name], rows[name]
    with progress.arm(arm.name, arm.seed, count * settings.rounds * settings.batch_size) as advance:
        LocalTraining(settings, arm.seed, training, validation, count, start).run(arm.folder, advance)


def _make_job(
    arm: Arm,
    settings: Settings,
    rows: Mapping[str, TrainingRows],
    start: State,
    progress: ArmProgress,
    stop: threading.Event,
) -> Job:
    images = sum(steps_per_round(settings, rows).values()) * settings.batch_size
    on_round = progress.rounds(arm.name, arm.seed, images, settings.rounds)
    return Job(settings, arm.name, arm.seed, start, arm.folder, title=arm.title, on_round=on_round, stop=stop)
