"""Terminals that are not UTF-8: signs that they can show, and no error."""

import io
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

from fedbus.reports.archive_check import check_sites
from fedbus.system.encoding import SIGNS, show_any_text
from tests.archives import make_busi, make_class_folders


def written(monkeypatch, encoding, text):
    """The bytes that a stream of this encoding gets for a text, after it is made to show any."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    show_any_text()
    print(text, end="", flush=True)
    return raw.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "iso8859-15", "koi8-r", "utf-8", "utf-16-le"])
def test_every_sign_of_ours_is_shown_or_replaced(monkeypatch, encoding):
    shown = written(monkeypatch, encoding, "".join(SIGNS)).decode(encoding)
    expected = []
    for sign, other in SIGNS.items():
        try:
            sign.encode(encoding)
            expected.append(sign)
        except UnicodeEncodeError:
            expected.append(other)
    assert shown == "".join(expected)
    assert all(other.isascii() for other in SIGNS.values())


def test_names_of_files_become_escapes(monkeypatch):
    assert written(monkeypatch, "ascii", "größe.png") == rb"gr\xf6\xdfe.png"
    assert written(monkeypatch, "latin-1", "größe 東.png") == "größe \\u6771.png".encode("latin-1")
    assert written(monkeypatch, "utf-8", "gr\udcf6e.png") == rb"gr\udcf6e.png"


def test_every_sign_in_our_code_has_a_replacement():
    """Only in strings that are printed: pages are UTF-8 always."""
    root = Path(__file__).parents[3]
    used = {
        sign
        for folder in ("fedbus", "clients", "server", "simulations")
        for path in (root / folder).rglob("*.py")
        if path.name != "encoding.py"
        for sign in path.read_text(encoding="utf-8")
        if not sign.isascii() and not sign.isalpha() and unicodedata.east_asian_width(sign) != "F"  # read, not printed
    }
    assert used <= set(SIGNS)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_check_prints_its_findings_in_any_encoding(tmp_path, monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    show_any_text()
    root = make_class_folders(tmp_path / "größe")
    (root / "Benign" / "0.png").write_bytes(b"")
    sites = [("busi", "busi", make_busi(tmp_path / "b")), ("own", "class-folders", root), ("x", "busi", tmp_path / "n")]
    assert check_sites(sites, tmp_path / "c.json", Console(width=100)) == 1
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert "+ can be used: 15 images" in text
    assert "x can't be used yet: 1 of 15 images can't be read" in text
    assert "gr\\xf6\\xdfe" in text if encoding == "ascii" else "größe" in text
    assert "Fix own, x and check again." in text


def test_the_command_line_shows_any_text(tmp_path):
    """An error that quotes a path, on standard error, and help, on standard output."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(Path(__file__).parents[3])}
    for words, code in ((["settings"], 0), (["check", "✔=busi:/größe"], 1)):
        result = subprocess.run(
            [sys.executable, "-m", "fedbus", *words], env=environment, capture_output=True, check=False
        )
        assert result.returncode == code, result.stderr
        assert b"Traceback" not in result.stderr
        (result.stdout + result.stderr).decode("ascii")
