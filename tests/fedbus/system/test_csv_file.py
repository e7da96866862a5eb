"""CSV files that a spreadsheet does not run, read back to the same values."""

import csv
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.evaluation.predictions import Predictions
from fedbus.sites.split import SplitRow, SplitTable, read_split
from fedbus.system.csv_file import neutralise, read_csv, restore, write_csv

HOSTILE = (
    '=HYPERLINK("http://x","y")', "+1+2", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\rx", "\n=1", " =1", "＝1",
    "'=1", "''=1", "a;=1", "a\t=1", "a,=1", "\u200b=1", "+49 30 1234", "-", "=", "'-0.5x", '"=1', "x\ry", "\r\n=a",
)  # fmt: skip
HARMLESS = ("", "a", "images/benign (1).png", "P0007", "x=1", "a-b", "'", "'a", "O'Hara; Mary", "ä", "a|b", "1-2")
NUMBERS = ("-0.5", "+0.5", "-1e-07", "12", "-3", "-.5")


def starts_of_cells(text):
    """The first visible character of each cell that a spreadsheet could make of a cell, whatever its separator."""
    return [part.lstrip(" \u200b")[:1] for part in re.split(r"[,;|\t\r\n]", text)]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_starts_a_formula(text):
    safe = neutralise(text)
    assert safe[0] == "'" or text[0] not in "=+-@\t\r\n＝"
    assert not set(starts_of_cells(safe)) & set("=+-@＝")
    assert restore(safe) == text


@pytest.mark.parametrize("text", [*HARMLESS, *NUMBERS])
def test_other_text_and_numbers_are_written_as_they_are(text):
    assert neutralise(text) == text
    assert restore(text) == text


def test_numbers_stay_numbers():
    assert write_csv(("a", "b", "c"), [(-0.5, "-0.5", -3)]) == "a,b,c\n-0.5,-0.5,-3\n"


def test_every_short_text_is_read_back_to_the_same_value():
    texts = ["".join(characters) for n in range(5) for characters in itertools.product("='-\t\r;a1", repeat=n)]
    rows = [list(row) for row in zip(texts[::2], texts[1::2], strict=False)]
    assert len(rows) > 2000
    assert read_csv(write_csv(("x", "y"), rows)) == [["x", "y"], *rows]


def test_splits_and_predictions_are_safe_and_are_read_back(tmp_path):
    split = SplitTable("x", tuple(SplitRow(i, t, CLASSES[0], t, t, "train") for i, t in enumerate(HOSTILE)))
    split.write(tmp_path / "split.csv")
    assert read_split("x", tmp_path / "split.csv") == split
    count = len(HOSTILE)
    names = np.array(HOSTILE)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), count)
    Predictions([0] * count, probabilities, names, names, names).to_csv(tmp_path / "predictions.csv")
    found = Predictions.from_csv(tmp_path / "predictions.csv")
    for column in ("groups", "sites", "paths"):
        np.testing.assert_array_equal(getattr(found, column), names)
    np.testing.assert_array_equal(found.probabilities, probabilities)
    for name in ("split.csv", "predictions.csv"):
        text = (tmp_path / name).read_bytes().decode()
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n") and cell not in NUMBERS]


def test_no_other_code_writes_csv():
    root = Path(__file__).parents[3]
    writers = [
        path.relative_to(root).as_posix()
        for folder in ("fedbus", "clients", "server", "simulations")
        for path in (root / folder).rglob("*.py")
        if re.search(r"csv\.(writer|DictWriter)\(|pandas", path.read_text())
    ]
    assert writers == ["fedbus/system/csv_file.py"]
