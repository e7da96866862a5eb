"""Text from other parties: one printable line, cut, at every place where it enters or is printed."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbus import cli
from fedbus.errors import FedbusWarning, RunError
from fedbus.system.processes import log_tail
from fedbus.system.terminal import print_line, print_log_line
from fedbus.text import is_plain, plain_text
from fedbus.transport.messages import Registration
from tests.forged import FORGED, check_plain
from tests.tiny import tiny_settings


@given(st.text(), st.integers(3, 40))
def test_plain_text_is_printable_short_and_stable(text, most):
    found = plain_text(text, most)
    assert found.isprintable()
    assert len(found) <= most
    assert plain_text(found, most) == found
    assert found == text or not is_plain(text, most)


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")), max_size=40))
def test_printable_text_of_any_language_is_unchanged(text):
    assert is_plain(text, 40)


def test_escape_sequences_and_line_breaks_are_removed_and_the_words_remain():
    assert plain_text("\x1b[1;31mred\x1b[0m\r\ntwo\tthree \x9b2Kfour") == "red  two three four"
    assert plain_text("a\u202eb\u200bc\x07d\x85e\u2028f") == "abcd e f"
    assert plain_text("scan\udcff.png") == "scan?.png"  # a name of a file that is not UTF-8
    assert plain_text("x" * 501) == "x" * 497 + "..."
    assert plain_text(ValueError("why\n")) == "why "


def test_errors_are_plain_and_survive_pickling():
    error = RunError(f"a {FORGED}", f"b {FORGED}")
    for text in (error.problem, error.remedy):
        check_plain(text)
    kind, parts = error.__reduce__()
    assert kind(*parts).problem == error.problem


@pytest.mark.parametrize("print_it", [print_line, print_log_line])
def test_a_printed_line_is_one_line(print_it, capsys):
    print_it(FORGED)
    check_plain(capsys.readouterr().out.removesuffix("\n"))


def test_the_command_line_prints_errors_and_notes_plainly(tmp_path, capsys):
    words = ["site", "approve", str(tmp_path / "\x1b[2J[/bold]bad\n09:00:00  round 9\u202e"), "x"]
    done = subprocess.run(
        [sys.executable, "-m", "fedbus", *words],
        capture_output=True, text=True, timeout=600, env=os.environ | {"COLUMNS": "1000", "NO_COLOR": "1"}, check=False,
    )  # fmt: skip
    problem, remedy = done.stderr.splitlines()
    assert "[/bold]bad 09:00:00" in problem, "not read as markup"
    assert (problem + remedy).isprintable()
    cli._show_warning(FedbusWarning(FORGED), FedbusWarning, "file.py", 1)
    check_plain(capsys.readouterr().err.removesuffix("\n"))


def test_a_quoted_log_is_plain(tmp_path):
    log = tmp_path / "hub.log"
    log.write_bytes(FORGED[:60].encode(errors="ignore") + b"\xff\x9b")
    check_plain(log_tail(log))


def test_a_registration_with_forged_labels_is_named_plainly():
    counts = dict.fromkeys(("train", "validation", "test"), (4, 4, 4))
    config, metrics = Registration("north", ("benign",), 32, counts, (4, 4, 4), 12, 12, 0).to_records()
    registration = Registration.from_records(config | {"labels": [FORGED] * 1000}, metrics)
    check_plain(registration.mismatch(tiny_settings()), 1000)
    for site in (FORGED, "a" * 101):
        with pytest.raises(RunError) as raised:
            Registration.from_records(config | {"site": site}, metrics)
        assert raised.value.problem.isprintable()
        assert len(raised.value.problem) < 700
