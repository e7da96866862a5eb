"""Read settings from a TOML file, `--set KEY=VALUE` and `--site READER=FOLDER`."""

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedbus.errors import FedbusWarning, SettingsError
from fedbus.settings.explain import explain
from fedbus.settings.old_keys import rename_old_keys
from fedbus.settings.schema import Settings, kebab

PHANTOMS_PRESET = Path(__file__).parent / "presets" / "phantoms.toml"
"""The settings of `fedbus compare` without a settings file and sites."""

HOSPITALS_PRESET = PHANTOMS_PRESET.with_name("hospitals.toml")
"""The settings of `fedbus compare` with sites but no settings file: the best ones on real datasets."""


def load_settings(path: Path | None = None, overrides: Sequence[str] = (), sites: Sequence[str] = ()) -> Settings:
    """Read a settings file, then apply `--set KEY=VALUE` and `--site READER=FOLDER`; later ones win.

    Relative paths in the file start at its folder, those on the command line at the current folder.

    Raises:
        SettingsError: If the file or a value is malformed, a key is unknown, or two sites share a name.
    """
    settings = _rename_and_warn(_read_toml(path) if path else {})
    given: dict[str, Any] = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise SettingsError(f"--set {override} has no value.", "Write --set KEY=VALUE.")
        given[key.strip()] = parse_value(value.strip())
    given = _rename_and_warn(given)
    resolve_paths(given, Path())
    settings |= given
    if sites:
        settings["sites"] = parse_sites(sites)
    sources = [str(path)] if path else []
    if given or sites or not path:
        sources.append("the command line")
    return build_settings(settings, where=" and ".join(sources))


def build_settings(values: Mapping[str, Any], where: str) -> Settings:
    """Validate settings; every error message names its key.

    Args:
        values: The settings by key.
        where: Where they come from, for the error message.

    Raises:
        SettingsError: If a key is unknown, or a value is of the wrong type, out of range or contradictory.
    """
    try:
        return Settings.model_validate(rename_old_keys(dict(values))[0])
    except ValidationError as error:
        raise SettingsError(
            f"{where}: {explain(error, known=[kebab(name) for name in Settings.model_fields])}.",
            "Run `fedbus settings` for all keys.",
        ) from error


def _rename_and_warn(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename old keys, with a warning about each."""
    renamed, notes = rename_old_keys(values)
    for note in notes:
        warnings.warn(note, FedbusWarning, stacklevel=3)
    return renamed


def parse_value(text: str) -> Any:
    """Read a value as TOML (`3`, `true`, `[0, 1]`, `"x"`); anything else is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_sites(specs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read `READER=FOLDER`, or `NAME=READER:FOLDER` for a site whose name is not that of its reader.

    Raises:
        SettingsError: If a name or path is missing, or two sites have the same name.
    """
    found: dict[str, dict[str, str]] = {}
    for spec in specs:
        name, separator, place = spec.partition("=")
        if not (separator and name and place):
            raise SettingsError(
                f"{spec!r} does not describe a site.", "Write READER=FOLDER, for example busi=/data/BUSI."
            )
        if name in found:
            raise SettingsError(
                f"Two sites are called {name}.",
                "Give each a different name: NAME=READER:FOLDER, for example north=busi:/data/BUSI.",
            )
        reader, colon, path = place.partition(":")
        known = colon and not Path(place).exists() and "/" not in reader
        found[name] = {"reader": reader, "path": path} if known else {"reader": name, "path": place}
        found[name]["path"] = str(Path(found[name]["path"]).expanduser().resolve())
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} does not exist.", "Give a settings file, for example fedbus/settings/presets/phantoms.toml."
        ) from error
    except OSError as error:  # a folder, or a file of another user
        raise SettingsError(
            f"{path} can't be read ({error.strerror}).", "Name a settings file that you can read."
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Fix that line.") from error
    sites = settings.get("sites")
    for source in sites.values() if isinstance(sites, dict) else ():
        if isinstance(source, dict):
            _resolve(source, "path", path.parent)
    resolve_paths(settings, path.parent)
    return settings


def resolve_paths(settings: dict[str, Any], folder: Path) -> None:
    """Make the paths among settings absolute, in place; relative ones start at `folder`."""
    _resolve(settings, "cache", folder)
    if settings.get("weights") not in ("imagenet", "none"):
        _resolve(settings, "weights", folder)


def _resolve(table: dict[str, Any], key: str, folder: Path) -> None:
    if isinstance(table.get(key), str):
        table[key] = str((folder / Path(table[key]).expanduser()).resolve())
