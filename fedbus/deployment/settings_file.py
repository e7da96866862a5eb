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
        raise SettingsError(
            f"{where}: {explain(error)}.", f"Fix this entry; the keys are {', '.join(_keys(model))}."
        ) from error


def _keys(model: type[FileSettings]) -> list[str]:
    """The keys of a file, those of a table as TABLE.KEY."""
    keys = list[str]()
    for name, field in model.model_fields.items():
        key, kind = field.alias or name, field.annotation
        if isinstance(kind, type) and issubclass(kind, FileSettings):
            keys += [f"{key}.{inner}" for inner in _keys(kind)]
        else:
            keys.append(key)
    return keys


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
    """Write settings as TOML: the title, then every key below its description; comments have at most 100 columns.

    A field that is itself `FileSettings` becomes a table; such fields must be the last ones.
    """
    return "\n\n".join([_comment(title), *_blocks(settings)]) + "\n"


def _blocks(settings: FileSettings) -> list[str]:
    blocks = []
    for name, field in type(settings).model_fields.items():
        key, value, comment = field.alias or name, getattr(settings, name), _comment(str(field.description))
        if isinstance(value, FileSettings):
            blocks += [f"[{key}]\n{comment}", *_blocks(value)]
        else:
            blocks.append(f"{comment}\n{key} = {toml_value(value)}")
    return blocks


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
