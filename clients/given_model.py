"""Test a model that the coordinator gives on this site's test rows; nothing is trained and nothing is stored.

Only test rows: the site's training and validation images may be in the model. Images near to those that the model was
trained on are left out, with all images of their groups. What is left is a split of its own for the site's limits:
otherwise a hub could learn the prediction on one image from the difference of two answers.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clients.limits.answered_splits import check_split
from clients.limits.counts import check_counts
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from clients.workspace import Workspace
from fedbus.model_folder.apply import LEAST_TO_ADAPT, adapt_statistics
from fedbus.models.batch_norm import OWN_PARTS
from fedbus.models.state import State, set_state
from fedbus.runs.site_state import own_arrays
from fedbus.sites.groups import cross_pairs
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.site import Site, read_facts, split_path
from fedbus.sites.split import SplitTable, read_split
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import TrainingRows
from fedbus.transport.messages import Instruction


def leave_out_seen(workspace: Workspace, site: Site, instruction: Instruction, seen: NDArray[np.uint8]) -> Site:
    """Return the site without the test rows whose group has an image near to one that the model was trained on.

    Args:
        workspace: The site's workspace.
        site: The site.
        instruction: The evaluation.
        seen: uint8 [N, 32], difference hashes of the images that the model was trained or chosen on.

    Raises:
        RefusedError: If no test row is left, or the answer would reveal too few images by the site's limits.
        RunError: If a record of an answered split can't be written.
    """
    rows = site.splits["test"]
    hashes = read_hashes(Path(read_facts(workspace.folder)[site.name]["pixels"]))[rows]
    near = {pair.first for pair in cross_pairs(hashes, seen, instruction.settings.near_bits)}
    if not near:
        return site
    groups = np.unique(site.groups[rows[sorted(near)]])
    kept = rows[~np.isin(site.groups[rows], groups)]
    if not len(kept):
        raise RefusedError(
            "This site refuses the study: all of its test images are near-duplicates of images that the model was "
            "trained on.",
            "Evaluate a model that was trained on other images.",
        )
    remaining = replace(site, splits={**site.splits, "test": kept})
    if workspace.limits and workspace.answered:
        if len(groups) < workspace.limits.min_split_patients:
            raise RefusedError(
                "This site refuses the study: some of its test images are near-duplicates of images that the model was "
                "trained on, of fewer patients than this site's min-split-patients = "
                f"{workspace.limits.min_split_patients}; without them, answers could be compared.",
                "Evaluate a model that was trained on other images.",
            )
        check_counts(remaining, workspace.limits)
        _check_remaining(workspace.folder, remaining, workspace.answered, workspace.limits)
    return remaining


def _check_remaining(prepared: Path, site: Site, answered: Path, limits: Limits) -> None:
    """Compare the remaining rows with the splits for which the site has answered, and record them as one."""
    chosen = {int(row) for rows in site.splits.values() for row in rows}
    whole = read_split(site.name, split_path(prepared, site.name))
    split = SplitTable(site.name, tuple(row for row in whole.rows if row.row in chosen))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.csv"
        split.write(path)
        check_split(split, path, answered, limits)


def set_given_state(
    model: nn.Module,
    workspace: Workspace,
    site: Site,
    instruction: Instruction,
    state: State,
    training_rows: Callable[[], TrainingRows],
) -> str:
    """Load a given model, with the BatchNorm that this site has for it.

    A site that took part in the model's training uses the arrays that it kept then. Elsewhere, the statistics of a
    model that has none for everybody are estimated from the site's training images, without labels.

    Args:
        model: A model of its architecture; its weights are replaced.
        workspace: The site's workspace.
        site: The site.
        instruction: The evaluation.
        state: The given model.
        training_rows: Returns the site's balanced training rows, as in the training.

    Returns:
        Whose BatchNorm the model has now: a key of `BATCH_NORM_OF`.

    Raises:
        RefusedError: If there are too few training images to estimate statistics from.
        RunError: If a file of the site's own arrays is damaged.
    """
    settings = instruction.settings
    own = own_arrays(settings.batch_norm, workspace.folder, instruction.memory, site.name, instruction.round)
    set_state(model, state | own)
    if settings.recalibrate:
        recalibrate(model, training_rows(), settings)
        return "own"
    if own or settings.batch_norm not in OWN_PARTS:
        return "own" if own else "shared"
    images = site.pixels[np.unique(site.splits["train"])]
    if len(images) < LEAST_TO_ADAPT:
        raise RefusedError(
            f"This site refuses the study: fewer than {LEAST_TO_ADAPT} training images to estimate BatchNorm "
            "statistics from.",
            "Evaluate a model with shared BatchNorm here.",
        )
    adapt_statistics(model, images, settings)
    return "adapted"
