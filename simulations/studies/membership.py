"""The membership audit of a study's cell, over its folds."""

from collections.abc import Sequence
from typing import Any

from fedbus.evaluation.membership_attack import AuditedFolds, measure_membership
from fedbus.evaluation.predictions import Predictions
from fedbus.settings.arms import is_blended
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from simulations.arm import list_arms
from simulations.membership import LEAKY, with_own_models
from simulations.scoring import TRAINING_FILE
from simulations.studies.run_cells import Task

NOT_AUDITED = "Its training images were not predicted, because an earlier version made it or its weights are elsewhere."


def membership_of_cell(
    settings: Settings, tasks: Sequence[Task], runs: dict[str, list[list[Predictions]]], sites: Sequence[str]
) -> dict[str, Any]:
    """Audit the models of a finished cell; returns what `simulations.membership.audit_membership` does.

    Args:
        settings: Settings of the cell.
        tasks: The cell's tasks, one per fold.
        runs: For each arm and fold the predictions of each seed on the test rows.
        sites: The sites' names.
    """
    if settings.split != "groups":
        return _nothing(LEAKY)
    trained = [_training_rows(task) for task in tasks]
    if any(found is None for found in trained):
        return _nothing(NOT_AUDITED)
    audited: dict[str, AuditedFolds] = {
        arm: [list(zip((found or {})[arm], tests, strict=True)) for found, tests in zip(trained, folds, strict=True)]
        for arm, folds in runs.items()
        if not is_blended(arm)
    }
    arms = with_own_models(audited, sites)
    return {"reason": "", **measure_membership(arms, sites, settings.bootstrap, settings.draw_seed)}


def _training_rows(task: Task) -> dict[str, list[Predictions]] | None:
    """Read the predictions on the training rows of one fold by arm, one per seed; None if a file is missing."""
    found: dict[str, list[Predictions]] = {}
    for arm in list_arms(resolve_sites(task.cell.settings), task.folder):
        path = arm.folder.path / TRAINING_FILE
        if arm.blended:
            continue
        if not path.is_file():
            return None
        found.setdefault(arm.name, []).append(Predictions.from_csv(path))
    return found


def _nothing(reason: str) -> dict[str, Any]:
    return {"reason": reason, "sites": {}, "arms": {}}
