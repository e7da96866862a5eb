"""Read a study from a TOML file and `--set KEY=VALUE`, with complaints that name the key and the remedy."""

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedbus.errors import SettingsError
from fedbus.settings.old_keys import rename_old_keys
from fedbus.settings.schema import Settings, kebab, nearest

PHANTOMS_PRESET = Path(__file__).parent / "presets" / "phantoms.toml"
"""What runs where no study and no site is named."""

HOSPITALS_PRESET = PHANTOMS_PRESET.with_name("hospitals.toml")
"""What runs where sites are named and no study: the settings that did best on real archives."""


def load_settings(path: Path | None = None, overrides: Sequence[str] = (), sites: Sequence[str] = ()) -> Settings:
    """Read a study file, then apply `--set KEY=VALUE` and `--site NAME=PATH`, later ones winning.

    Relative paths in the file are relative to it; those on the command line to the current folder.

    Raises:
        SettingsError: the file or a value is malformed, a key is unknown, two sites share a name.
    """
    settings = _with_present_keys(_read_toml(path) if path else {})
    given: dict[str, Any] = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise SettingsError(f"--set {override} has no value.", "Write --set KEY=VALUE.")
        given[key.strip()] = parse_value(value.strip())
    given = _with_present_keys(given)
    resolve_places(given, Path())
    settings |= given
    if sites:
        settings["sites"] = parse_sites(sites)
    return build_settings(settings, where=str(path) if path else "the command line")


def build_settings(values: Mapping[str, Any], where: str) -> Settings:
    """Validate settings, turning every complaint into words that name the key and the remedy.

    Raises:
        SettingsError: as `load_settings`.
    """
    try:
        return Settings.model_validate(rename_old_keys(dict(values))[0])
    except ValidationError as error:
        raise SettingsError(
            f"{where}: " + "; ".join(_explain(dict(e)) for e in error.errors()) + ".",
            "See `fedbus settings` for every key.",
        ) from error


def _with_present_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename old keys, and tell the user of each."""
    renamed, notes = rename_old_keys(values)
    for note in notes:
        warnings.warn(note, FutureWarning, stacklevel=3)
    return renamed


def parse_value(text: str) -> Any:
    """Read a value as TOML does (`3`, `true`, `[0, 1]`, `"x"`); what is not TOML is taken as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_sites(specs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read `NAME=PATH`, where NAME is a reader, or `NAME=READER:PATH` for a site with a name of its own.

    Raises:
        SettingsError: no `=`, or two sites with one name.
    """
    found: dict[str, dict[str, str]] = {}
    for spec in specs:
        name, separator, place = spec.partition("=")
        if not (separator and name and place):
            raise SettingsError(f"{spec!r} does not name a site.", "Write NAME=PATH, e.g. busi=/data/BUSI.")
        if name in found:
            raise SettingsError(
                f"Two sites are called {name}.",
                "Give each its own name: NAME=READER:PATH, e.g. north=busi:/data/BUSI.",
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
            f"{path} is not there.", "Name a study file, e.g. fedbus/settings/presets/phantoms.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Mend that line.") from error
    sites = settings.get("sites")
    for source in sites.values() if isinstance(sites, dict) else ():
        if isinstance(source, dict):
            _resolve(source, "path", path.parent)
    resolve_places(settings, path.parent)
    return settings


def resolve_places(settings: dict[str, Any], folder: Path) -> None:
    """Make the paths among settings absolute, in place; relative ones start at the folder."""
    _resolve(settings, "cache", folder)
    if settings.get("weights") not in ("imagenet", "none"):
        _resolve(settings, "weights", folder)


def _resolve(table: dict[str, Any], key: str, folder: Path) -> None:
    if isinstance(table.get(key), str):
        table[key] = str((folder / Path(table[key]).expanduser()).resolve())


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"no setting is called {where!r}{nearest(where, [kebab(k) for k in Settings.model_fields])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}, not {error['input']!r}" if where else message
