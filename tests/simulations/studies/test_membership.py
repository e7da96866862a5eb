"""The membership audit of a study's cell: read from the folders of its folds, or the reason why there is none."""

import shutil

import pytest

from fedbus.evaluation.predictions import Predictions
from fedbus.reports.comparison.results import read_results
from fedbus.runs.folder import read_settings
from simulations.membership import LEAKY
from simulations.studies.cell import Cell
from simulations.studies.membership import NOT_AUDITED, membership_of_cell
from simulations.studies.run_cells import Task

SITES = ("north", "south")


@pytest.fixture(scope="module")
def settings(trained_run):
    return read_settings(trained_run)


def audit(folders, settings, **changes):
    """Audit a cell whose folds are these run folders."""
    cell = Cell("cell", {}, settings.model_copy(update=changes))
    tests = {
        arm: [[Predictions.from_csv(folder / "arms" / arm / "predictions.csv")] for folder in folders]
        for arm in ("local-north", "local-south", "centralised", "fedavg", "fedavg-tuned", "fedavg-blended")
    }
    return membership_of_cell(cell.settings, [Task(cell, folder, folder) for folder in folders], tests, SITES)


def test_one_fold_gives_what_its_comparison_reports(trained_run, settings):
    assert audit([trained_run], settings) == read_results(trained_run)["membership"]


def test_groups_are_counted_over_folds(trained_run, settings):
    once, twice = audit([trained_run], settings), audit([trained_run, trained_run], settings)
    for site in SITES:
        assert twice["sites"][site]["reason"] == once["sites"][site]["reason"] != ""
        assert twice["sites"][site]["non_members"] == 2 * once["sites"][site]["non_members"]


def test_a_cell_without_predictions_of_its_training_rows_says_why(trained_run, settings, tmp_path):
    old = shutil.copytree(trained_run, tmp_path / "old")
    (old / "arms/fedavg/training.csv").unlink()
    assert audit([old], settings)["reason"] == NOT_AUDITED
    assert audit([trained_run], settings, split="images")["reason"] == LEAKY
