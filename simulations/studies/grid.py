"""A grid: the small TOML file that says which settings a study varies, read into one cell for each combination.

title = "..."               question = "..."            default = the cell that all others are compared with
[settings]                  what all cells share, over `phantoms.toml` or, with --site, `real.toml`
[grid]                      KEY = [VALUES]: every combination is a cell, named by its values
[cells.NAME]                a cell of its own; `weights-of = "CELL"` trains nothing and scores that cell's weights,
                            with its settings but for `burned-in`, `bootstrap` and fewer `arms`
references = "NAME"         the cell that holds the local and the centralised arms (optional)
"""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import SettingsError
from fedbus.settings.explain import nearest
from fedbus.settings.load import PHANTOMS_PRESET, build_settings, load_settings, resolve_paths
from fedbus.settings.schema import Settings, check_site_name
from simulations.studies.cell import WEIGHTS_OF, Cell, check_cells

GRIDS = Path(__file__).parent

REAL_PRESET = PHANTOMS_PRESET.with_name("real.toml")
"""What lies under the grid's settings where sites are named."""

KEYS = ("title", "question", "default", "references", "settings", "grid", "cells")


@dataclass(frozen=True)
class Grid:
    """A study of several cells.

    Attributes:
        name: of the file, without `.toml`.
        title, question: for the report.
        shared: the settings that all cells share.
        cells: by name, in the order of the file.
        default: the cell that the others are compared with.
        references: the cell whose local and centralised arms the federated ones are compared with; empty: none.
    """

    name: str
    title: str
    question: str
    shared: Settings
    cells: Mapping[str, Cell]
    default: str
    references: str = ""


def grid_names() -> list[str]:
    """The grids that come with FedBUS."""
    return sorted(path.stem for path in GRIDS.glob("*.toml") if "default" in _read(path))


def load_grid(name: str, overrides: Sequence[str] = (), sites: Sequence[str] = ()) -> Grid:
    """Read a grid that comes with FedBUS, by name, or one's own, by path.

    A cell's own settings win over `--set`, which wins over the grid's shared ones: a study keeps what it varies.

    Raises:
        SettingsError: there is no such grid, it is malformed, or the settings of a cell are; the cell is named.
    """
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not path.is_file() or (not name.endswith(".toml") and name not in grid_names()):
        raise SettingsError(
            f"There is no study {name!r}{nearest(name, grid_names())}.", "Name one of these, or a TOML file of yours."
        )
    content = _read(path)
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise SettingsError(f"{path}: no key is called {unknown[0]!r}{nearest(unknown[0], KEYS)}.", "Mend that key.")
    base = load_settings(REAL_PRESET if sites else PHANTOMS_PRESET, sites=sites).as_dict() | _table(
        path, content, "settings"
    )
    given = load_settings(None, overrides).model_dump(mode="json", by_alias=True, exclude_unset=True)
    shared = base | given
    changes = _combinations(path, content)
    cells = {name: _cell(path, name, shared, changes) for name in changes}
    grid = Grid(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        question=str(content.get("question", "")),
        shared=build_settings(shared, f"{path}, settings"),
        cells=cells,
        default=str(content.get("default", "")),
        references=str(content.get("references", "")),
    )
    check_cells(path, grid.cells, grid.default, grid.references or grid.default)
    return grid


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Mend that line.") from error


def _table(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: {key} is no table.", f"Write [{key}] and its keys under it.")
    if key != "cells":
        resolve_paths(found, path.parent)
    return found


def _combinations(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each cell sets, by name: every combination of the grid, then the cells that stand by themselves."""
    axes, found = _table(path, content, "grid"), dict[str, dict[str, Any]]()
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{path}: grid.{key} is no list of values.", f"Write {key} = [VALUE, VALUE].")
    for values in itertools.product(*axes.values()) if axes else ():
        found["_".join(str(value) for value in values)] = dict(zip(axes, values, strict=True))
    for name in _table(path, content, "cells"):
        if name in found:
            raise SettingsError(f"{path}: two cells are called {name!r}.", "Give one of them another name.")
        found[name] = dict(_table(path, content["cells"], name))
    if not found:
        raise SettingsError(f"{path} has no cells.", "Write a [grid] or [cells.NAME].")
    return found


def _cell(path: Path, name: str, shared: Mapping[str, Any], changes: Mapping[str, dict[str, Any]]) -> Cell:
    try:
        check_site_name(name)  # it names a folder, as a site does
    except ValueError as error:
        raise SettingsError(f"{path}: {str(error).replace('sites', 'cells')}.", "Rename the cell.") from error
    own, source = dict(changes[name]), str(changes[name].get(WEIGHTS_OF, ""))
    own.pop(WEIGHTS_OF, None)
    trained = {key: value for key, value in changes.get(source, {}).items() if key != WEIGHTS_OF}
    settings = build_settings(dict(shared) | trained | own, f"{path}, cell {name}")
    return Cell(name, own, settings, source)
