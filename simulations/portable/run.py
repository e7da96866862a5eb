"""Train a packed study where only PyTorch, timm, NumPy, scikit-learn and safetensors are installed.

    python -m simulations.portable.run STUDY.safetensors OUT [--weights FILE] [--seconds 540]

Writes OUT/results.json.gz after every training; keeping that file is enough to continue on another machine. The state
of an unfinished training is stored in --checkpoints and deleted when it is finished.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from fedbus.errors import FedbusError, RunError
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.lock import hold_folder
from fedbus.runs.site_state import state_folder
from fedbus.seeds import derive_seed
from fedbus.settings.arms import STRATEGIES
from fedbus.system.signals import exit_status, handle_signals
from simulations.arm import Arm, list_arms
from simulations.in_process import InProcessTraining
from simulations.local_training import LocalTraining, centralised_steps
from simulations.portable.results_file import PackedResults, describe_machine
from simulations.portable.rows import PackedRows
from simulations.portable.study_file import WEIGHTS_FILE, PackedStudy
from simulations.portable.weights_file import load_weights
from simulations.prediction import predict_arm

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

RESULTS_FILE = "results.json.gz"


class OutOfTimeError(Exception):
    """The budget is spent; the training stopped after a finished round."""


@dataclass
class Budget:
    """Seconds that a call may take; it is checked between rounds, so that the last one may exceed it.

    Attributes:
        seconds: How many.
        started: When they started.
    """

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() - self.started >= self.seconds

    def after(self, done: int) -> Callable[[dict[str, Any]], None]:
        """Return a function that raises `OutOfTimeError` after a round, if that is not among the first `done`."""

        def check(line: dict[str, Any]) -> None:
            if line["round"] > done and self.spent:
                raise OutOfTimeError

        return check


def list_trainings(study: PackedStudy, checkpoints: Path) -> list[tuple[int, Arm]]:
    """List fold and arm of every training, the most valuable first.

    The first question is whether federated training is as good as centralised training, on every fold: so these two
    come first. Then the sites' own models, then the other federated arms; further seeds come last.
    """
    found = []
    for fold in study.folds:
        arms = list_arms(study.settings(fold), checkpoints / f"fold-{fold}")
        found += [(fold, arm) for arm in arms if not arm.blended]
    names = [name for name in study.values["arms"] if name in STRATEGIES]
    ranks = {"centralised": 0} | {name: 1 if name == names[0] else 3 for name in names}
    seeds = list(study.values["seeds"])
    return sorted(found, key=lambda each: (seeds.index(each[1].seed), ranks.get(each[1].name, 2)))  # stable in the fold


def run(
    study: PackedStudy, out: Path, weights: Path | None, seconds: float, checkpoints: Path
) -> list[tuple[int, Arm]]:
    """Run the trainings that are not finished, until all are or the time is over.

    Args:
        study: The packed study.
        out: Folder of the results; those in it are kept.
        weights: File of the start weights that `pack` wrote, or None: random ones.
        seconds: The budget.
        checkpoints: Folder of unfinished trainings.

    Returns:
        What is left.

    Raises:
        FedbusError: If the weights can't be used, a training fails, or the results are of another study.
    """
    budget, results = Budget(seconds), _open_results(study, out / RESULTS_FILE)
    done = results.finished
    left = [each for each in list_trainings(study, checkpoints) if (each[0], each[1].name, each[1].seed) not in done]
    starts: dict[int, State] = {}
    rows: PackedRows | None = None
    for place, (fold, arm) in enumerate(left):
        if place and budget.spent:
            return left[place:]
        if arm.seed not in starts:
            starts[arm.seed] = packed_start(study.values["model"], weights, arm.seed, checkpoints)
        if rows is None or (rows.fold, rows.seed) != (fold, arm.seed):
            rows = PackedRows(study, fold, arm.seed)
        settings = study.settings(fold)
        settings.precision = results.machine["precision"]  # a namespace, see PackedStudy
        try:
            train(arm, settings, rows, starts[arm.seed], budget)
        except OutOfTimeError:
            return left[place:]
        results.add(fold, arm, predict_arm(arm, settings, rows.sites, "test", rows.federated.__getitem__))
        results.save(out / RESULTS_FILE)
        shutil.rmtree(arm.folder.path)  # models are large, and only their predictions are returned
        shutil.rmtree(state_folder(arm.out, arm.title), ignore_errors=True)
        print(f"fold {fold} {arm.title}: {arm_seconds(results):.0f} s", flush=True)
    return []


def packed_start(model: str, weights: Path | None, seed: int, folder: Path) -> State:
    """Make the start weights of a seed; a file in `folder` holds them as `start_state` reads them, and is deleted."""
    init = derive_seed(seed, "init")
    if weights is None:
        return start_state(model, "none", init)
    path = folder / "start.safetensors"
    save_file(load_weights(weights), path)
    try:
        return start_state(model, str(path), init)
    finally:
        path.unlink()


def arm_seconds(results: PackedResults) -> float:
    """Return the seconds of the training that was added last."""
    return float(results.trainings[-1]["facts"]["seconds"])


def train(arm: Arm, settings: "Settings", rows: PackedRows, start: State, budget: Budget) -> None:
    """Train one arm, continuing from its checkpoint; nothing if it is finished.

    Raises:
        OutOfTimeError: If the budget was spent after a round.
    """
    if arm.folder.finished:
        return
    sites, on_round = rows.sites, budget.after(len(arm.folder.read_history()))
    if arm.federated:
        federated = rows.federated
        InProcessTraining(
            settings, arm.out, sites, federated, arm.name, arm.seed, start, arm.folder, arm.title
        ).run(on_round)  # fmt: skip
    elif arm.name == "centralised":
        steps = centralised_steps(settings, rows.federated)
        training = LocalTraining(settings, arm.seed, rows.pooled(), list(sites.values()), steps, start)
        training.run(arm.folder, on_round=on_round)
    else:
        name = arm.name.removeprefix("local-")
        alone = rows.alone(name)
        training = LocalTraining(settings, arm.seed, alone, [sites[name]], alone.steps_per_round(settings), start)
        training.run(arm.folder, on_round=on_round)


def start_weights(study: PackedStudy, path: Path) -> Path | None:
    """Locate the start weights beside the file of a study; None if it starts from random ones."""
    return None if study.values["weights"] == "none" else path.with_name(WEIGHTS_FILE)


def _open_results(study: PackedStudy, path: Path) -> PackedResults:
    """Read the results of earlier calls, or start new ones.

    Raises:
        RunError: If they are of another study, or of a machine that trains in another precision.
    """
    values = dict(study.values)
    machine = describe_machine(values["device"], values["precision"])
    if not path.is_file():
        return PackedResults(values, machine)
    results = PackedResults.load(path)
    if results.study != values or results.machine["precision"] != machine["precision"]:
        raise RunError(f"{path} has results of another study or precision.", "Choose another OUT.")
    return results


def main(words: Sequence[str] | None = None) -> int:
    """Run the trainings, and print what is left; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, help=f"start weights; default: {WEIGHTS_FILE} beside the study")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the round in which they end")
    parser.add_argument("--checkpoints", type=Path, help="default: OUT/checkpoints; a folder in memory is fastest")
    given = parser.parse_args(words)
    try:
        study = PackedStudy.load(given.study)
        weights = given.weights or start_weights(study, given.study)
        checkpoints = given.checkpoints or given.out / "checkpoints"
        with hold_folder(given.out), hold_folder(checkpoints):
            left = run(study, given.out, weights, given.seconds, checkpoints)
    except KeyboardInterrupt:
        print("Stopped. Finished rounds are saved; run the same command again to continue.")
        return exit_status()
    except FedbusError as error:
        print(f"Error: {error.problem}\nWhat to do: {error.remedy}", file=sys.stderr)
        return 1
    for fold, arm in left:
        print(f"left: fold {fold} {arm.title}, {len(arm.folder.read_history())} rounds done")
    if left:
        print("Run the same command again to continue.")
    return 0


if __name__ == "__main__":
    handle_signals()
    raise SystemExit(main())
