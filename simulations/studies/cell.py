"""A cell of a study's grid, and the checks that cells of one grid can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import SettingsError
from fedbus.settings.arms import is_blended, is_tuned
from fedbus.settings.explain import nearest
from fedbus.settings.schema import Settings, kebab

WEIGHTS_OF = "weights-of"
"""Key by which a cell names another whose trained weights it scores."""

SCORING = ("burned-in", "bootstrap", "arms", "keep", "recalibrate", "threshold")
"""Settings that a cell with another's weights may change; every other setting decides what those weights are."""

ROWS = ("sites", "phantom_images", "limit", "near_bits", "folds", "fold", "split_seed")
"""Settings that decide which rows are tested. Differences are paired by row, so all cells must share them."""


@dataclass(frozen=True)
class Cell:
    """One combination of settings.

    Attributes:
        name: Valid as a folder's name.
        changes: The settings that differ from those that all cells share.
        settings: All its settings.
        weights_of: The cell whose weights it scores instead of training its own; empty: it trains.
    """

    name: str
    changes: Mapping[str, Any]
    settings: Settings
    weights_of: str = ""


def check_cells(path: Path, cells: Mapping[str, Cell], default: str, references: str) -> None:
    """Check that the cells of a grid can be compared.

    Args:
        path: The grid's file, for error messages.
        cells: The cells by name.
        default: The cell that the others are compared with.
        references: The cell whose local and centralised arms the federated arms are compared with.

    Raises:
        SettingsError: If a key names a cell that does not exist, a cell's settings do not match the weights that it
            scores, or a cell is tested on other rows than the cell that it is compared with.
    """
    named = {"default": default, "references": references}
    named |= {f"cells.{cell.name}.{WEIGHTS_OF}": cell.weights_of for cell in cells.values() if cell.weights_of}
    for key, name in named.items():
        if name not in cells:
            raise SettingsError(
                f"{path}: {key} = {name!r} is not a cell{nearest(name, list(cells))}.", "Name one of the cells."
            )
    for cell in cells.values():
        if cell.weights_of:
            _check_weights_of(path, cell, cells[cell.weights_of])
    by_group = [cell for cell in cells.values() if cell.settings.split == "groups"]
    for name in (default, references):
        if by_group and cells[name].settings.split != "groups":
            raise SettingsError(
                f"{path}: cell {name} has split = {cells[name].settings.split}, which leaks: it can't be a reference.",
                "Name a cell with split = groups.",
            )
    for cell in by_group:
        _check_rows(path, cell, cells[default])


def _check_weights_of(path: Path, cell: Cell, source: Cell) -> None:
    if source.weights_of:
        raise SettingsError(
            f"{path}: cell {cell.name} takes its weights from {source.name}, which trains none.",
            "Name a cell that trains its own weights.",
        )
    other = [key for key in cell.changes if key not in SCORING]
    if other:
        raise SettingsError(
            f"{path}: cell {cell.name} takes its weights from {source.name} but sets {', '.join(other)}.",
            f"It inherits that cell's settings and may change only {', '.join(SCORING)}.",
        )
    trained = [arm for arm in cell.settings.arms if not is_blended(arm)]
    unknown = [arm for arm in trained if arm not in source.settings.arms or is_tuned(arm)]
    if unknown:
        raise SettingsError(
            f"{path}: cell {cell.name} can't take the weights of {', '.join(unknown)} from {source.name}.",
            f"Name arms that {source.name} trains; fine-tuned arms can't be taken from another cell.",
        )


def _check_rows(path: Path, cell: Cell, default: Cell) -> None:
    other = [kebab(key) for key in ROWS if getattr(cell.settings, key) != getattr(default.settings, key)]
    if other:
        raise SettingsError(
            f"{path}: cell {cell.name} differs from {default.name} in {', '.join(other)}, and so in its test rows.",
            "Cells are compared on the same rows: give all cells one value, or run separate studies with --set.",
        )
