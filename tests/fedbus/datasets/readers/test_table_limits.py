"""Tables and workbooks cost no more than the limits, and are refused by name; special files are never read."""

import os
import re
import tracemalloc
import zipfile

import pytest

from fedbus.datasets.registry import read_dataset
from fedbus.errors import ArchiveError
from fedbus.images.limits import MOST_TABLE_BYTES
from tests.archives import make_gdph_sysucc, make_labels_csv


@pytest.fixture
def workbook(tmp_path):
    return make_gdph_sysucc(tmp_path, "b") / "GDPH&SYSUCC" / "BIRADS&FOLD.xlsx"


def rewrite(workbook, change):
    """Replace the text of the workbook's sheet."""
    with zipfile.ZipFile(workbook) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    (sheet,) = [name for name in parts if name.startswith("xl/worksheets/sheet")]
    parts[sheet] = change(parts[sheet])
    with zipfile.ZipFile(workbook, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)


def test_a_workbook_that_unpacks_without_end_is_refused(tmp_path, workbook):
    rewrite(workbook, lambda sheet: sheet + b" " * (MOST_TABLE_BYTES + 1))
    assert workbook.stat().st_size < 2**18
    with pytest.raises(ArchiveError, match=r"BIRADS&FOLD\.xlsx unpacks to more than 64 MiB"):
        read_dataset("gdph-sysucc", tmp_path, "x")


def test_a_sheet_that_claims_millions_of_cells_takes_no_memory_for_them(tmp_path, workbook):
    whole = read_dataset("gdph-sysucc", tmp_path, "x")

    def enlarge(sheet):
        text = re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', sheet)
        return text.replace(b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>')

    rewrite(workbook, enlarge)
    tracemalloc.start()
    try:
        assert read_dataset("gdph-sysucc", tmp_path, "x").rows == whole.rows
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_table_above_the_limit_is_refused_before_it_is_read(tmp_path):
    root = make_labels_csv(tmp_path / "own")
    with (root / "labels.csv").open("ab") as file:
        file.truncate(MOST_TABLE_BYTES + 1)  # sparse: takes no space
    with pytest.raises(ArchiveError, match=r"labels\.csv is larger than 64 MiB"):
        read_dataset("labels-csv", root, "x")


def test_a_pipe_in_place_of_a_table_does_not_block(tmp_path):
    root = make_labels_csv(tmp_path / "own")
    (root / "labels.csv").unlink()
    os.mkfifo(root / "labels.csv")
    with pytest.raises(ArchiveError, match=r"labels\.csv is not a regular file"):
        read_dataset("labels-csv", root, "x")
