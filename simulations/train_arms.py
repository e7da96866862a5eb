"""The arms of a comparison: what each trains on, and for how many steps, so that all do equal work."""

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
from simulations.fine_tuning import fine_tune_arm
from simulations.flower_simulation import simulate
from simulations.local_training import LocalTraining
from simulations.progress import ArmProgress


def run_arms(
    settings: Settings, out: Path, sites: Mapping[str, Site], starts: Mapping[int, State], progress: ArmProgress
) -> None:
    """Train every arm that is not finished.

    First those in one place, then all federated ones in one simulation, last the tuned ones, which go on from these.

    Args:
        settings: the settings.
        out: the run folder.
        sites: the hospitals.
        starts: the weights that all arms of a seed start from.
        progress: what the terminal shows.

    Raises:
        FedbusError: an arm failed; what it had finished is kept for --resume.
        KeyboardInterrupt: Ctrl-C.
    """
    open_arms = [arm for arm in list_arms(settings, out) if not arm.folder.finished]
    stop = threading.Event()
    jobs = []
    for seed in settings.seeds:
        mine = [arm for arm in open_arms if arm.seed == seed]
        if not mine:
            continue
        start = starts[seed]
        rows = _rows(settings, sites, seed)
        for arm in mine:
            if not arm.federated and not arm.tuned:
                _fit(arm, settings, sites, rows, start, progress)
        jobs += [_job(arm, settings, rows, start, progress, stop) for arm in mine if arm.federated]
    if jobs:
        torch.cuda.empty_cache()  # the workers are other processes on the same card
        progress.note("starting the simulation")
        simulate(settings, out, jobs, stop)
    for arm in (arm for arm in open_arms if arm.tuned):
        fine_tune_arm(arm, settings, out, sites, _rows(settings, sites, arm.seed), progress)


def steps_per_round(settings: Settings, rows: Mapping[str, TrainingRows]) -> dict[str, int]:
    """Optimiser steps of each site a round; the pooled baseline takes their sum."""
    return {name: r.steps_per_round(settings) for name, r in rows.items()}


def _rows(settings: Settings, sites: Mapping[str, Site], seed: int) -> dict[str, TrainingRows]:
    return {name: site_rows(site, settings, seed, pick_device(settings.device)) for name, site in sites.items()}


def _fit(
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
        data = pooled_rows(validation, settings, arm.seed, pick_device(settings.device))
    else:
        name = arm.name.removeprefix("local-")
        validation, count, data = [sites[name]], steps[name], rows[name]
    with progress.arm(arm.name, arm.seed, count * settings.rounds * settings.batch_size) as advance:
        LocalTraining(settings, arm.seed, data, validation, count, start).run(arm.folder, advance)


def _job(
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
