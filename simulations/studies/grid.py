"""Read a grid: the TOML file that defines which settings a study varies, one cell per combination.

title = "..."               question = "..."
default = "CELL"            the cell that all others are compared with
references = "CELL"         the cell with the local and centralised arms (optional)
[settings]                  shared by all cells; on top of `phantoms.toml` or, with --site, `real.toml`
[grid]                      KEY = [VALUES]: each combination is a cell, named after its values
[cells.NAME]                one more cell. With `weights-of = "CELL"` it trains nothing: it scores that cell's weights,
                            inherits its settings, and may change only how they are scored
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
from fedbus.settings.schema import Settings
from fedbus.settings.site_name import check_site_name
from simulations.studies.cell import WEIGHTS_OF, Cell, check_cells

GRIDS = Path(__file__).parent

REAL_PRESET = PHANTOMS_PRESET.with_name("real.toml")
"""Base settings of a study on named sites."""

KEYS = ("title", "question", "default", "references", "settings", "grid", "cells")


@dataclass(frozen=True)
class Grid:
    """A study of several cells.

    Attributes:
        name: The file's name without `.toml`.
        title, question: Heading and question of the report.
        shared: The settings that all cells share.
        cells: The cells by name, in the order of the file.
        default: The cell that the others are compared with.
        references: The cell whose local and centralised arms the federated ones are compared with; empty: none.
    """

    name: str
    title: str
    question: str
    shared: Settings
    cells: Mapping[str, Cell]
    default: str
    references: str = ""


def grid_names() -> list[str]:
    """List the grids that FedBUS ships."""
    return sorted(path.stem for path in GRIDS.glob("*.toml") if "default" in _read(path))


def load_grid(name: str, overrides: Sequence[str] = (), sites: Sequence[str] = ()) -> Grid:
    """Read a grid that FedBUS ships, by name, or any other, by path.

    A cell's own settings win over `--set`, which wins over the grid's shared ones: a study must vary what it varies.

    Raises:
        SettingsError: If the grid does not exist, or it or a cell's settings are malformed.
    """
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not path.is_file() or (not name.endswith(".toml") and name not in grid_names()):
        raise SettingsError(
            f"There is no study {name!r}{nearest(name, grid_names())}.",
            f"Choose {', '.join(grid_names())}, or name a TOML file.",
        )
    content = _read(path)
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise SettingsError(
            f"{path}: no key is called {unknown[0]!r}{nearest(unknown[0], KEYS)}.", "Fix or remove that key."
        )
    preset = load_settings(REAL_PRESET if sites else PHANTOMS_PRESET, sites=sites).as_dict()
    overriding = load_settings(None, overrides).model_dump(mode="json", by_alias=True, exclude_unset=True)
    shared = preset | _table(path, content, "settings") | overriding
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
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Fix that line.") from error


def _table(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: {key} is not a table.", f"Write [{key}], and its keys below it.")
    if key != "cells":
        resolve_paths(found, path.parent)
    return found


def _combinations(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each cell's own settings by name: all combinations of [grid], then every [cells.NAME]."""
    axes, found = _table(path, content, "grid"), dict[str, dict[str, Any]]()
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{path}: grid.{key} is not a list of values.", f"Write {key} = [VALUE, VALUE].")
    for values in itertools.product(*axes.values()) if axes else ():
        found["_".join(str(value) for value in values)] = dict(zip(axes, values, strict=True))
    for name in _table(path, content, "cells"):
        if name in found:
            raise SettingsError(f"{path}: two cells are called {name!r}.", "Give one of them another name.")
        found[name] = dict(_table(path, content["cells"], name))
    if not found:
        raise SettingsError(f"{path} has no cells.", "Add [grid] or [cells.NAME].")
    return found


def _cell(path: Path, name: str, shared: Mapping[str, Any], changes: Mapping[str, dict[str, Any]]) -> Cell:
    try:
        check_site_name(name)  # a cell names a folder, as a site does
    except ValueError as error:
        raise SettingsError(f"{path}: {str(error).replace('sites', 'cells')}.", "Rename the cell.") from error
    own, source = dict(changes[name]), str(changes[name].get(WEIGHTS_OF, ""))
    own.pop(WEIGHTS_OF, None)
    trained = {key: value for key, value in changes.get(source, {}).items() if key != WEIGHTS_OF}
    settings = build_settings(dict(shared) | trained | own, f"{path}, cell {name}")
    return Cell(name, own, settings, source)
