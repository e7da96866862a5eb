"""Measure how much of the hardware the training loop uses, and how much faster it is than a typical loop.

    python -m simulations.benchmarks.engine SETTINGS.json OUT.json

*Ceiling*: the same model stepping on one resident batch. *Plain*: image folders, torchvision, a DataLoader, float32, in
a process of its own, whose threads and memory are as PyTorch leaves them. All three take turns; ratios are medians over
the turns. Ours and the plain loop also train from the same start for the same number of steps, and are scored on the
same test rows.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import statistics
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn

from fedbus.device import pick_device, pick_dtype
from fedbus.evaluation.evaluate import differences, evaluate
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions, join
from fedbus.models.build import build_model, place_model
from fedbus.models.state import set_state
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import POOLED, pooled_rows
from simulations.benchmarks.case import Case, make_case
from simulations.benchmarks.image_folders import write_image_folders
from simulations.benchmarks.loaded import LIBRARY_DEFAULT, waiting_process
from simulations.benchmarks.plain_loop import accuracy, plain_device, train_plain, training_batches
from simulations.benchmarks.throughput import (
    Speed,
    ceiling_speed,
    compare_speeds,
    engine_speed,
    plain_speed,
    step_costs,
    take_turns,
)

STEPS, TURNS = 6, 5
"""Timed steps of each turn, and turns of each loop."""

LEARNING = {"model": "resnetv2_18", "image-size": 64, "batch-size": 16, "learning-rate": 1e-3, "warmup": 0.15}
"""Settings of the comparison of accuracy from random weights: in so few steps, fifty layers would learn little."""

SEEDS = [0, 1, 2]


def measure_speed(case: Case, folder: Path, steps: int, turns: int) -> dict[str, Any]:
    """Let ceiling, ours and the plain loop train in turns on the training rows of all sites.

    Args:
        case: The prepared case.
        folder: The tree of all sites' images, made by `write_image_folders`.
        steps: Timed steps of each turn.
        turns: Turns of each loop.
    """
    settings, device = case.settings, pick_device(case.settings.device)
    rows = pooled_rows(list(case.sites.values()), settings, settings.seeds[0], device)
    ours = _placed(case)
    with waiting_process(LIBRARY_DEFAULT) as process:
        speeds: dict[str, Speed] = {
            "ceiling": ceiling_speed(_placed(case), settings),
            "ours": engine_speed(ours, rows, settings),
            "plain": lambda count: process.submit(_plain_images_per_second, settings, folder, count).result(),
        }
        found = take_turns(speeds, steps, turns)
    return {
        **compare_speeds(found),
        "step_ms": step_costs(ours, rows, settings, steps),
        "precision": str(pick_dtype(settings.precision, device)).removeprefix("torch."),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "steps": steps,
    }


def _plain_images_per_second(settings: Settings, folder: Path, steps: int) -> float:
    return _plain(settings, folder)(steps)


@lru_cache(maxsize=1)
def _plain(settings: Settings, folder: Path) -> Speed:
    model = build_model(settings.model).to(plain_device(settings))
    return plain_speed(model, training_batches(folder, settings, settings.seeds[0]), settings)


def _placed(case: Case) -> nn.Module:
    model = place_model(case.settings.model, pick_device(case.settings.device))
    set_state(model, case.start)
    return model


def compare_accuracy(case: Case, folder: Path) -> dict[str, Any]:
    """Train our loop and the plain one from the same start for all rounds, once per seed, and score both.

    Returns:
        Accuracies in [0, 1] with bootstrap intervals over patients. "plain_own": the plain loop's accuracy with its own
        decoding of the images, mean over seeds. "difference": ours minus the plain loop's, on the same draws.
    """
    settings = case.settings
    ours, plain, own, steps = [], [], [], 0
    for seed in settings.seeds:
        model, steps = _train_ours(case, seed)
        ours.append(_predict(model, case))
        run = train_plain(folder, case, steps, seed)
        plain.append(_predict(run.model, case))
        own.append(accuracy(run.model, folder, case))
    draws, seed = settings.bootstrap, settings.draw_seed
    return {
        "steps": steps,
        "seeds": len(settings.seeds),
        "images": len(ours[0].labels),
        "ours": evaluate(ours, draws, seed)["accuracy"],
        "plain": evaluate(plain, draws, seed)["accuracy"],
        "plain_own": statistics.mean(own),
        "difference": differences(ours, plain, draws, seed)["accuracy"],
    }


def _train_ours(case: Case, seed: int) -> tuple[nn.Module, int]:
    settings, model = case.settings, _placed(case)
    rows = pooled_rows(list(case.sites.values()), settings, seed, pick_device(settings.device))
    optimiser, steps = make_optimiser(model, settings), rows.steps_per_round(settings)
    for number in range(1, settings.rounds + 1):
        train_round(model, rows, settings, seed=seed, round_number=number, steps=steps, optimiser=optimiser)
    return model, steps * settings.rounds


def _predict(model: nn.Module, case: Case) -> Predictions:
    return join([predict_split(model, site, "test", case.settings) for site in case.sites.values()])


def measure(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Measure speed with the given settings, and accuracy over `SEEDS`; from random weights, with a smaller model.

    Args:
        folder: Folder for phantoms, decoded images and prepared sites.
        settings: The settings, with TOML's keys.
    """
    shared = {"cache": str(folder.absolute() / "cache"), **settings}
    fast = make_case(folder / "speed", shared)
    smaller = LEARNING if fast.settings.weights == "none" else {}
    learnt = make_case(folder / "learning", shared | smaller | {"seeds": SEEDS})
    with tempfile.TemporaryDirectory() as trees:
        tree = write_image_folders(fast, Path(trees) / "images")[POOLED]  # datasets and splits are the same for both
        return {
            **measure_speed(fast, tree, STEPS, TURNS),
            "accuracy": compare_accuracy(learnt, tree),
            "settings": {"speed": fast.settings.as_dict(), "accuracy": learnt.settings.as_dict()},
        }


def main(settings: Path, out: Path) -> None:
    """Measure with the settings in a JSON file (TOML's keys), and write OUT."""
    write_json(out, measure(out.with_suffix(""), read_json(settings)))


if __name__ == "__main__":
    typer.run(main)
