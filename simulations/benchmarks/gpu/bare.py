"""Federated rounds of three sites on one GPU in one process."""

import statistics
import time
from functools import partial
from itertools import product

import torch
from torch import nn

from fedbus.device import pick_device
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import get_state, set_state
from fedbus.training.cuda_graph import cuda_graphs
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows
from simulations.benchmarks.gpu.machine import graphs_work
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import GpuSettings, Plan, noise_rows
from simulations.benchmarks.throughput import seconds_of

BARE = "bare"
"""Name of the stage."""

SITES, ROUNDS = 3, 4
"""Size of the federation; its first round is not counted."""


def list_sizes(plan: Plan) -> list[int]:
    """List the sites' batch sizes: first a site's share of a batch, as in the default settings, then a whole one."""
    return [max(1, plan.settings.batch_size // SITES), plan.settings.batch_size]


def measure_bare(plan: Plan, results: Results) -> None:
    """Measure FedAvg as a bare loop in one process: the lower bound for a federation on this machine."""
    choices = (False, True) if graphs_work(results) else (False,)
    for batch_size, graphs in product(list_sizes(plan), choices):
        case = {"batch_size": batch_size, "graphs": graphs}
        if not any(case.items() <= row.items() for row in results.of(BARE).get("rows", [])):
            with cuda_graphs(graphs):
                found = run_bare(plan.case(plan.settings.model, batch_size), plan.epoch_steps)
            results.add_row(BARE, case | found)


def run_bare(gpu_settings: GpuSettings, steps: int) -> dict[str, float]:
    """Run the bare loop.

    Args:
        gpu_settings: The model and how it trains.
        steps: Optimiser steps of each site and round.
    """
    device = pick_device(gpu_settings.device)
    sites = [noise_rows(gpu_settings, steps * gpu_settings.batch_size, device, seed) for seed in range(SITES)]
    model, shared = place_model(gpu_settings.model, device), start_state(gpu_settings.model, "none", 0)
    rounds, training = [], []
    for number in range(1, ROUNDS + 1):
        started, stepping = time.perf_counter(), 0.0
        mean = {key: torch.zeros_like(value) for key, value in shared.items()}
        for rows in sites:
            set_state(model, shared)
            stepping += seconds_of(partial(train_site, model, rows, gpu_settings, number), device)
            for key, value in get_state(model).items():
                mean[key].add_(value, alpha=1 / SITES)
        shared = mean
        rounds.append(time.perf_counter() - started)
        training.append(stepping)
    return {
        "round_s": statistics.median(rounds[1:]),
        "outside_training_s": statistics.median(a - b for a, b in zip(rounds[1:], training[1:], strict=True)),
    }


def train_site(model: nn.Module, rows: TrainingRows, gpu_settings: GpuSettings, number: int) -> None:
    """Train one site for one round."""
    settings = gpu_settings.settings
    steps, optimiser = rows.steps_per_round(settings), make_optimiser(model, settings)
    train_round(model, rows, settings, seed=0, round_number=number, steps=steps, optimiser=optimiser)
