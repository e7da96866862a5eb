"""Settings files in TOML with a comment for every key; values can be changed without losing a comment."""

import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedbus.errors import SettingsError
from fedbus.settings.explain import explain

Port = Annotated[int, Field(ge=1, le=65535)]


class FileSettings(BaseModel):
    """Settings of one file: frozen, no unknown keys, no type conversion; the field `a_b` is the key `a-b`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


FileSettingsT = TypeVar("FileSettingsT", bound=FileSettings)


def build_file_settings(model: type[FileSettingsT], values: Mapping[str, Any], where: str) -> FileSettingsT:
    """Validate settings; every error message names its key.

    Raises:
        SettingsError: If a key is unknown or missing, or a value has another type or is out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        raise SettingsError(f"{where}: {explain(error)}.", f"Fix this entry; the keys are {known}.") from error


def read_settings_file(path: Path, model: type[FileSettingsT]) -> FileSettingsT:
    """Read a settings file.

    Raises:
        SettingsError: If the file can't be read, is not TOML, or does not fit the model.
    """
    return parse_settings_file(read_settings_file_text(path), model, path)


def read_settings_file_text(path: Path) -> str:
    """Read the text of a settings file, comments included.

    Raises:
        SettingsError: If the file can't be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read ({error}).", "Restore it from a backup.") from error


def parse_settings_file(text: str, model: type[FileSettingsT], path: Path) -> FileSettingsT:
    """Validate the text of the settings file at `path`.

    Raises:
        SettingsError: If the text is not TOML or does not fit the model.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Fix that line.") from error
    return build_file_settings(model, values, str(path))


def settings_file_text(settings: FileSettings, title: str) -> str:
    """Write settings as TOML: the title, then every key below its description; comments have at most 100 columns."""
    blocks = [_comment(title)]
    for name, field in type(settings).model_fields.items():
        line = f"{field.alias or name} = {toml_value(getattr(settings, name))}"
        blocks.append(f"{_comment(str(field.description))}\n{line}")
    return "\n\n".join(blocks) + "\n"


def replace_values(text: str, values: Mapping[str, str | int]) -> str:
    """Set top-level keys of a TOML text to other values; all else, comments included, stays. A missing key is added.

    Raises:
        SettingsError: If a value is not Unicode text.
    """
    document = tomlkit.parse(text)
    for key, value in values.items():
        _check_unicode(value)
        document[key] = value
    return tomlkit.dumps(document)


def toml_value(value: str | int) -> str:
    """Write a string or a number as TOML does.

    Raises:
        SettingsError: If the string is not Unicode text.
    """
    _check_unicode(value)
    return tomlkit.item(value).as_string()


def _check_unicode(value: str | int) -> None:
    """Refuse strings that UTF-8 can't represent, such as a path with bytes of another encoding."""
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"{value!r} is not Unicode text.", "Rename that file or folder.") from error


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, 98, break_on_hyphens=False)]
    return "\n".join(f"# {line}" for line in lines)
