"""Settings files that explain themselves: TOML with a comment for every key, changed without losing a comment."""

import json
import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedbus.errors import SettingsError
from fedbus.settings.explain import explain

Port = Annotated[int, Field(ge=1, le=65535)]

_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s#"']+)"""


class FileSettings(BaseModel):
    """Settings of one file: frozen, no unknown keys, no silent conversion; `a_b` is written `a-b`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


FileSettingsT = TypeVar("FileSettingsT", bound=FileSettings)


def build_file_settings(model: type[FileSettingsT], values: Mapping[str, Any], where: str) -> FileSettingsT:
    """Validate settings; every complaint names its key.

    Raises:
        SettingsError: a key is unknown or missing, or a value is of another type or out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        raise SettingsError(f"{where}: {explain(error)}.", f"Mend that; the keys are {known}.") from error


def read_settings_file(path: Path, model: type[FileSettingsT]) -> FileSettingsT:
    """Read a settings file.

    Raises:
        SettingsError: it can't be read, is not TOML, or as `build_file_settings`.
    """
    return parse_settings_file(read_settings_file_text(path), model, path)


def read_settings_file_text(path: Path) -> str:
    """Read a settings file as it is written, comments and all.

    Raises:
        SettingsError: it can't be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read ({error}).", "Restore it from a backup.") from error


def parse_settings_file(text: str, model: type[FileSettingsT], path: Path) -> FileSettingsT:
    """Validate the text of the settings file at `path`.

    Raises:
        SettingsError: as `read_settings_file`.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Mend that line.") from error
    return build_file_settings(model, values, str(path))


def settings_file_text(settings: FileSettings, title: str) -> str:
    """Write settings as TOML: the title, then every key under its description, as comments of at most 100 columns."""
    blocks = [_comment(title)]
    for name, field in type(settings).model_fields.items():
        line = f"{field.alias or name} = {toml_value(getattr(settings, name))}"
        blocks.append(f"{_comment(str(field.description))}\n{line}")
    return "\n\n".join(blocks) + "\n"


def replace_values(text: str, values: Mapping[str, str | int]) -> str:
    """Set top-level keys of a TOML text to other values; all else, comments too, stays. A missing key is added.

    The text may hold no tables, and strings of one line only: what `settings_file_text` writes and a person edits.
    """
    for key, value in values.items():
        pattern = re.compile(rf"^([ \t]*{re.escape(key)}[ \t]*=[ \t]*){_VALUE}", re.MULTILINE)
        line = toml_value(value)
        found = pattern.search(text)
        text = text[: found.end(1)] + line + text[found.end() :] if found else f"{text.rstrip()}\n{key} = {line}\n"
    return text


def toml_value(value: str | int) -> str:
    """Write a string or a number as TOML does.

    Raises:
        SettingsError: the string is no Unicode text, as a path with bytes of another encoding.
    """
    try:
        value if isinstance(value, int) else value.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"{value!r} is not Unicode text.", "Rename that file or folder.") from error
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one character where TOML is stricter


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, 98, break_on_hyphens=False)]
    return "\n".join(f"# {line}" for line in lines)
