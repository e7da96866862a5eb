"""The ServerApp's part of `fedbus hub evaluate`: the sites that have not answered yet test the given model."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedbus.classes import CLASSES
from fedbus.errors import RunError, listed
from fedbus.model_folder.apply import state_for_elsewhere
from fedbus.model_folder.read import read_model
from fedbus.runs.folder import read_settings
from fedbus.system.files import read_json, write_json
from fedbus.training.federation import FederationRows
from fedbus.transport.messages import EVALUATION, Instruction
from server.hub.run_status import Status, read_status, write_status
from server.rounds.evaluation import Answers, GivenModel, ask_sites
from server.rounds.exchange import Exchange

GIVEN = "given"
"""In the run folder: a copy of the model folder, which shows that the run is an evaluation."""

REQUEST_FILE, ANSWERS_FILE = "request.json", "answers.json"


@dataclass(frozen=True)
class Request:
    """What is asked about a given model, besides what its folder contains.

    Attributes:
        model: The path that the coordinator gave.
        digest: Tells the model from others.
        title: The title of the training, by which sites that took part find their own arrays.
        run: As in `Instruction`.
        round: The round of this hub that made the model; 0 for a model from elsewhere.
        own: Whether a run of this hub made it.
        class_counts: Training images of each class at all sites of that run; empty for a model from elsewhere.
        balanced: Training rows after balancing at all sites of that run; 0 for a model from elsewhere.
        splits: By site of that run, its images of each class by split; empty for a model from elsewhere.
    """

    model: str
    digest: str
    title: str
    run: str
    round: int
    own: bool
    class_counts: tuple[int, ...] = ()
    balanced: int = 0
    splits: Mapping[str, Any] = field(default_factory=dict)


def read_request(out: Path) -> Request:
    """Read what an evaluation's folder was made for.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return Request(**read_json(out / REQUEST_FILE))


def read_answers(out: Path) -> dict[str, Any]:
    """Read the answers that an evaluation has so far.

    Returns:
        "sites": by site its "scores", "batch_norm" and "registration"; "failures": by site why it has none.

    Raises:
        RunError: If the file is damaged.
    """
    path = out / ANSWERS_FILE
    return read_json(path) if path.is_file() else {"sites": {}, "failures": {}}


def evaluate_given(
    grid: Grid, out: Path, names: dict[int, str], roster: tuple[str, ...], exchange: Exchange | None = None
) -> None:
    """Ask the sites that have not answered yet, and add their answers.

    Args:
        grid: Flower's grid.
        out: The run folder.
        names: The approved sites, by node.
        roster: The same with their keys, as in `Instruction`.
        exchange: As in `ask_sites`.

    Raises:
        FedbusError: If no site could answer; earlier answers are kept.
    """
    before = read_answers(out)
    missing = {node: name for node, name in names.items() if name not in before["sites"]}
    if missing:
        given = _given_model(out, roster)
        answers = ask_sites(grid, missing, given, threading.Event(), lambda words: _report(out, words), exchange)
        answered, changed = _found(answers), _changed_sites(answers, read_request(out))
        found = before["sites"] | {name: answer for name, answer in answered.items() if name not in changed}
        failures = answers.failures | changed
        write_json(out / ANSWERS_FILE, {"sites": found, "failures": failures})
        if not found:
            reasons = listed([f"{site}: {reason}" for site, reason in failures.items()])
            raise RunError(f"No site could test the model ({reasons}).", "Fix the sites, then rerun with --resume.")
    write_status(out, Status("finished"))


def _given_model(out: Path, roster: tuple[str, ...]) -> GivenModel:
    folder, request, settings = read_model(out / GIVEN), read_request(out), read_settings(out)
    instruction = Instruction(
        settings,
        folder.facts.seed,
        tuple(CLASSES.index(name) for name in folder.facts.predicts),
        split="test",
        title=request.title,
        run=request.run,
        round=request.round,
        arm=folder.facts.arm,
        task=EVALUATION,
        sites=roster,
        federation=FederationRows(tuple(request.class_counts), request.balanced) if request.own else None,
    )
    seen = None if request.own else folder.seen()  # its test rows were not trained on, by its own split
    return GivenModel(instruction, state_for_elsewhere(folder), seen.hashes if seen else None)


def _changed_sites(answers: Answers, request: Request) -> dict[str, str]:
    """Explain whose answers do not count: with other images the split differs, and tests images of the training."""
    reason = "its images have changed since the model was trained, so some of its test images may be known to the model"
    return {
        name: reason
        for name in answers.reports
        if name in request.splits and json.loads(json.dumps(answers.registrations[name].splits)) != request.splits[name]
    }


def _found(answers: Answers) -> dict[str, Any]:
    return {
        name: {
            "scores": report.test.to_metrics() if report.test else {},
            "batch_norm": report.batch_norm,
            "registration": json.loads(json.dumps(asdict(answers.registrations[name]))),
        }
        for name, report in answers.reports.items()
    }


def _report(out: Path, words: str) -> None:
    current = read_status(out)
    if current is None or current.state != "stopped":  # then Flower is about to end this process
        write_status(out, Status("waiting" if words.startswith("waiting") else "evaluating", words))
