"""What every program of `make bench-peers` writes: when its rounds ended, and how well the trained model does."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import join
from fedbus.models.build import place_model
from fedbus.models.state import State, set_state
from fedbus.system.files import read_json, write_json
from simulations.benchmarks.case import Case, make_case

DRAWS = 1000
"""Bootstrap draws of the interval of the accuracy."""


@dataclass(frozen=True)
class Trained:
    """A federation that one framework trained.

    Attributes:
        ends: When each round ended, in seconds of `time.time`.
        steps: Optimiser steps of each round, all sites together.
        final: The shared weights after the last round.
    """

    ends: list[float]
    steps: list[int]
    final: State


def measure(settings: Path, out: Path, train: Callable[[Case, Path], Trained]) -> None:
    """Prepare the case of a settings file, train it, and write OUT.json and OUT.safetensors, the trained weights.

    All programs prepare the case in the same folder, so that only the first one draws the phantoms.

    Args:
        settings: Settings with TOML's keys, as JSON.
        out: OUT.json.
        train: Called with the case and an empty folder.

    Raises:
        FedbusError: If the case can't be prepared or trained, or other than all optimiser steps were taken.
    """
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    case = make_case(out.parent / "case", read_json(settings))
    prepared = time.time() - started
    trained = train(case, folder)
    check_steps(trained, case)
    save_file(trained.final, out.with_suffix(".safetensors"))
    facts = {"prepared_seconds": prepared, "ends": trained.ends, "steps": trained.steps}
    write_json(out, facts | {"test": score_test(case, trained.final)})


def check_steps(trained: Trained, case: Case) -> None:
    """Refuse to compare a federation that took other than our number of steps.

    Raises:
        RunError: If it did.
    """
    from simulations.benchmarks.site_work import SiteWork

    work = SiteWork(case.settings, case.sites)
    expected = [sum(work.steps(name) for name in work.rows)] * case.settings.rounds
    if trained.steps != expected or len(trained.ends) != len(expected):
        raise RunError(
            f"{len(trained.ends)} rounds ended, of {trained.steps} steps; {expected} were expected.", "See its log."
        )


def score_test(case: Case, state: State) -> Mapping[str, Any]:
    """Score weights on the test rows of all sites: `accuracy` and `macro_f1` with 95 % intervals, and `images`."""
    model = place_model(case.settings.model, pick_device(case.settings.device))
    set_state(model, state)
    predictions = join([predict_split(model, site, "test", case.settings) for site in case.sites.values()])
    scores = evaluate([predictions], DRAWS, seed=0)
    return {key: scores[key] for key in ("accuracy", "macro_f1", "images")}
