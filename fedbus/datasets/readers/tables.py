"""Tables as spreadsheets and other programs write them: read, or refused with the true reason.

Read are UTF-8, with or without a byte order mark, and UTF-16 with one; commas, semicolons, tabs and vertical bars; a
first line `sep=;`; blank rows and columns; cells of the form `="0007"`. Another 8-bit encoding is refused, because a
wrong guess would change file names without an error.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus.errors import ArchiveError, ImageError, listed
from fedbus.images.limits import MOST_TABLE_BYTES, open_regular

DELIMITERS = ",;\t|"

_REMEDY = "Save it as 'CSV UTF-8'."

_OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"%PDF": "a PDF file",
    b"{\\rtf": "an RTF document",
    b"<": "an HTML or XML file",
    b"\x1f\x8b": "a gzip file",
}
"""Files that people name .csv, by their first bytes."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[^\w"\s]|\t)"?[,;\t|]*\s*', re.IGNORECASE)
_AS_TEXT = re.compile(r'="(.*)"')
"""How spreadsheets keep the zeros of `0007`: as a formula."""


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        path: The file.
        header: The names of the columns as written; empty where a column has no name.
        rows: (line in the file, one cell per column) of each row that is not blank.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, index: int) -> list[str]:
        """The cells of one column."""
        return [cells[index] for _, cells in self.rows]

    def lookup(self, key: str, names: Mapping[str, str], rows: Sequence[str]) -> dict[str, list[str]]:
        """Return the cells of some columns, for rows that one column identifies.

        Args:
            key: Name of the column that identifies a row, in lower case.
            names: The columns, by their names in lower case; those that the table lacks are left out. Their values name
                the columns of the result.
            rows: Cells of the column `key`; a row that the table lacks has empty cells.
        """
        header = [name.lower() for name in self.header]
        place = {cells[header.index(key)]: cells for _, cells in self.rows}
        return {
            shown: [place[row][header.index(name)] if row in place else "" for row in rows]
            for name, shown in names.items()
            if name in header
        }

    @property
    def lines(self) -> list[int]:
        """The line of each row in the file."""
        return [line for line, _ in self.rows]


def parse_table(path: Path, columns: Sequence[str], known: Callable[[str], bool]) -> Table:
    """Read a table, whichever way it was saved.

    Args:
        path: The file.
        columns: Columns that it needs, for the message if it does not exist.
        known: Function that returns whether a header names a column that is read; the delimiter that gives the most of
            them is used.

    Raises:
        ArchiveError: If the file is missing, in another format or encoding, or no table, or a row has more cells than
            the header.
    """
    text = _read_text(path, columns)
    separator = _SEPARATOR_LINE.fullmatch(text.lstrip().splitlines()[0]) if text.strip() else None
    delimiters = separator["delimiter"] if separator else DELIMITERS
    headers = {each: _first_row(path, text, each, skip=separator is not None) for each in delimiters}
    best = max(delimiters, key=lambda each: (sum(map(known, headers[each])), len(headers[each])))
    rows = _rows(path, text, best)[separator is not None :]
    header = rows[0][1] if rows else []
    surplus = [f"row {line} ({len(row)} cells)" for line, row in rows if any(row[len(header) :])]
    if surplus:
        raise ArchiveError(
            f"{path} has rows with more cells than the {len(header)} columns of its header: {listed(surplus)}.",
            f"Quote cells that contain {best!r}, and name every column.",
        )
    width = len(header)
    padded = tuple((line, tuple((row + [""] * width)[:width])) for line, row in rows[1:])
    return Table(path, tuple(header), padded)


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table of a published dataset.

    Args:
        path: The file.
        columns: Names that its header must have, in lower case; the header's own case does not matter.

    Returns:
        (line in the file, value of each column without surrounding blanks); header names in lower case.

    Raises:
        ArchiveError: As `parse_table`; or there is no such column, or two of one name that differ.
    """
    table = parse_table(path, columns, lambda name: name.lower() in columns)
    header = [name.lower() for name in table.header]
    missing = [name for name in columns if name not in header]
    if missing:
        raise missing_columns(table, missing, columns)
    check_repeated(table, [[i for i, name in enumerate(header) if name == column] for column in columns])
    return [(line, dict(zip(reversed(header), reversed(cells), strict=True))) for line, cells in table.rows]


def missing_columns(table: Table, missing: Sequence[str], columns: Sequence[str]) -> ArchiveError:
    """The error for a table without some of the columns that it needs."""
    return ArchiveError(
        f"{table.path} has no column {' and no column '.join(missing)}; its header is {','.join(table.header)!r}.",
        f"Give it the columns {','.join(columns)}.",
    )


def check_repeated(table: Table, same: Sequence[Sequence[int]]) -> None:
    """Raise ArchiveError if columns that mean the same have different cells; `same` lists their positions."""
    for positions in same:
        different = [line for line, cells in table.rows if len({cells[i] for i in positions}) > 1]
        if different:
            names = " and ".join(repr(table.header[i]) for i in positions)
            raise ArchiveError(
                f"{table.path} has {len(positions)} columns of one meaning, {names}, which differ in "
                f"{listed([f'row {line}' for line in different])}.",
                "Keep the right one, and rename or remove the others.",
            )


def clean(cell: str) -> str:
    """Remove what can't be seen from both ends of a cell: white space, control and format characters."""
    start, end = 0, len(cell)
    while start < end and _is_invisible(cell[start]):
        start += 1
    while start < end and _is_invisible(cell[end - 1]):
        end -= 1
    return cell[start:end]


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _read_text(path: Path, columns: Sequence[str]) -> str:
    try:
        with open_regular(path, MOST_TABLE_BYTES) as file:
            content = file.read()
    except ImageError as error:
        raise ArchiveError(error.problem, error.remedy) from error
    except FileNotFoundError as error:
        raise ArchiveError(f"{path} does not exist.", f"Create it, with the columns {','.join(columns)}.") from error
    for start, format_name in _OTHER_FORMATS.items():
        if content.startswith(start):
            raise ArchiveError(f"{path} is {format_name}, not a CSV file.", f"Open it in its program. {_REMEDY}")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ArchiveError(f"{path} is not UTF-8 text (line {line}).", _REMEDY) from error
    if "\0" in text:
        raise ArchiveError(f"{path} is not UTF-8 text: it contains NUL characters.", _REMEDY)
    return text


def _first_row(path: Path, text: str, delimiter: str, *, skip: bool) -> list[str]:
    """The header by this delimiter; empty if there is none, or its quotation marks do not fit."""
    try:
        rows = _rows(path, text, delimiter, most=2 if skip else 1)
    except ArchiveError:
        return []
    return rows[skip][1] if len(rows) > skip else []


def _rows(path: Path, text: str, delimiter: str, most: int | None = None) -> list[tuple[int, list[str]]]:
    """The first rows that are not blank, with their lines; all of them without `most`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            cells = [_plain(cell) for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
            if len(rows) == most:
                break
    except csv.Error as error:
        raise ArchiveError(
            f"{path} is not a table (line {reader.line_num}: {error}).", f"Close every quotation mark. {_REMEDY}"
        ) from error
    return rows


def _plain(cell: str) -> str:
    cell = clean(cell)
    formula = _AS_TEXT.fullmatch(cell)
    return clean(formula[1]) if formula else cell
