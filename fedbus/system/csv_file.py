"""CSV files that are safe to open in a spreadsheet, and are read back to the same values.

A spreadsheet runs a cell that starts with =, +, -, @, a tab or a line break as a formula, and names of files and
patients come from others. Such text is written with an apostrophe before it, which spreadsheets take as "text follows".
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_INVISIBLE = r"[\s\0\u200b-\u200f\u2060\ufeff]*"
_START = rf"{_INVISIBLE}[=+\-@＝＋－＠\t\r\n]"

# A spreadsheet that splits at another separator than the comma sees the start of a cell inside of this one.
_CELL = re.compile(rf"(^|[,;|\t\r\n])(?='*{_START})")
_NEUTRALISED = re.compile(rf"(^|[,;|\t\r\n])'(?='*{_START})")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the text of a CSV file; numbers, and text that is only a number, stay as they are."""
    return format_rows([header, *rows])


def format_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return lines of a CSV file, as `write_csv`, to write a long file in portions."""
    return "".join(_line([neutralise(cell) if isinstance(cell, str) else cell for cell in row]) for row in rows)


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # so that cells with either of the two are quoted
    return text.getvalue().removesuffix("\r\n") + "\n"


def read_csv(text: str) -> list[list[str]]:
    """Return the rows of a file that `write_csv` made, header included.

    Raises:
        csv.Error: If the text is not CSV.
    """
    return [[restore(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]


def neutralise(text: str) -> str:
    """Return text that a spreadsheet does not run."""
    return text if _NUMBER.fullmatch(text) else _CELL.sub(r"\1'", text)


def restore(text: str) -> str:
    """Return the text that `neutralise` was given."""
    return _NEUTRALISED.sub(r"\1", text)
