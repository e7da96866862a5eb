"""A cell of a grid, and what the cells of one grid must have in common to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import SettingsError
from fedbus.settings.explain import nearest
from fedbus.settings.schema import Settings, is_tuned, kebab

WEIGHTS_OF = "weights-of"

SCORING = ("burned-in", "bootstrap", "arms")
"""What a cell may change that scores another's weights: everything else decides what those weights are."""

ROWS = ("sites", "phantom_images", "limit", "near_bits", "folds", "fold", "split_seed")
"""Settings that decide which rows are tested; differences are paired, so cells must agree in them."""


@dataclass(frozen=True)
class Cell:
    """One combination of settings.

    Attributes:
        name: can name a folder.
        changes: what it sets beyond the settings that all cells share.
        settings: all its settings.
        weights_of: the cell whose weights it scores in place of training its own; empty: none.
    """

    name: str
    changes: Mapping[str, Any]
    settings: Settings
    weights_of: str = ""


def check_cells(path: Path, cells: Mapping[str, Cell], default: str, references: str) -> None:
    """Check that the cells of a grid can be compared.

    Args:
        path: of the grid, for the complaint.
        cells: by name.
        default: the cell that the others are compared with.
        references: the cell of the arms that federated ones are compared with.

    Raises:
        SettingsError: a cell is named that there is none of, takes weights that are not those of its settings, or is
            tested on other rows than the cell that it is compared with.
    """
    named = {"default": default, "references": references}
    named |= {f"cells.{cell.name}.{WEIGHTS_OF}": cell.weights_of for cell in cells.values() if cell.weights_of}
    for key, name in named.items():
        if name not in cells:
            raise SettingsError(f"{path}: {key} names no cell: {name!r}{nearest(name, list(cells))}.", "Name a cell.")
    for cell in cells.values():
        if cell.weights_of:
            _check_weights_of(path, cell, cells[cell.weights_of])
    honest = [cell for cell in cells.values() if cell.settings.split == "groups"]
    for name in (default, references):
        if honest and cells[name].settings.split != "groups":
            raise SettingsError(
                f"{path}: cell {name} has split = {cells[name].settings.split}, and nothing can be compared with that.",
                "Compare with a cell of split = groups.",
            )
    for cell in honest:
        _check_rows(path, cell, cells[default])


def _check_weights_of(path: Path, cell: Cell, source: Cell) -> None:
    if source.weights_of:
        raise SettingsError(
            f"{path}: cell {cell.name} takes its weights from {source.name}, which has none of its own.",
            "Name a cell that is trained.",
        )
    other = [key for key in cell.changes if key not in SCORING]
    if other:
        raise SettingsError(
            f"{path}: cell {cell.name} takes its weights from {source.name} and sets {', '.join(other)}.",
            f"It has that cell's settings, and may change {', '.join(SCORING)}.",
        )
    unknown = [arm for arm in cell.settings.arms if arm not in source.settings.arms or is_tuned(arm)]
    if unknown:
        raise SettingsError(
            f"{path}: cell {cell.name} can't take the weights of {', '.join(unknown)} from {source.name}.",
            "Name arms that are trained there; those that are tuned at each hospital have to be trained anew.",
        )


def _check_rows(path: Path, cell: Cell, default: Cell) -> None:
    other = [kebab(key) for key in ROWS if getattr(cell.settings, key) != getattr(default.settings, key)]
    if other:
        raise SettingsError(
            f"{path}: cell {cell.name} has another {', '.join(other)} than {default.name}, and so other test rows.",
            "Cells are compared on the same rows; run the studies apart, with --set.",
        )
