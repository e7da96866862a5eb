"""Names of files in a table, and the files on disk that they mean."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

_ADDRESS = re.compile(r"[a-z]+:/", re.IGNORECASE)


def forward_slashes(cell: str) -> str:
    """Return a path of a table with forward slashes: spreadsheets on Windows write backslashes."""
    return PurePosixPath(cell.replace("\\", "/")).as_posix()


def leaves_folder(name: str) -> bool:
    """Return whether a relative path leads out of its folder, or is an absolute path or an address."""
    windows = PureWindowsPath(name)
    return ".." in windows.parts or bool(windows.root or windows.drive) or bool(_ADDRESS.match(name))


def match_names(names: Sequence[str], present: Iterable[str]) -> list[str]:
    """Give each name of a table the form that it has on disk.

    Spreadsheets and copies between systems change what nobody sees: macOS stores ü as two characters, a spreadsheet
    makes a space a non-breaking one, Windows ignores upper and lower case. A name that no file has exactly becomes that
    of the only file that differs from it just so; others are returned unchanged.

    Args:
        names: Relative paths with forward slashes, as the table has them.
        present: Relative paths of the files on disk.
    """
    files = set(present)
    alike: dict[str, list[str]] = {}
    for name in files:
        alike.setdefault(_form(name), []).append(name)
    return [name if name in files else _only(alike.get(_form(name), []), name) for name in names]


def _only(found: list[str], otherwise: str) -> str:
    return found[0] if len(found) == 1 else otherwise


def _form(name: str) -> str:
    parts = unicodedata.normalize("NFC", name).split("/")
    return "/".join(" ".join(_visible(part).split()) for part in parts).casefold()


def _visible(text: str) -> str:
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if character.isspace():
            kept.append(" ")
        elif category == "Pd":
            kept.append("-")
        elif category not in ("Cc", "Cf"):
            kept.append(character)
    return "".join(kept)
