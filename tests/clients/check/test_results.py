"""Results of a check as a table and as JSON."""

import io
import json

import pytest
from rich.console import Console

from clients.check.results import CheckResult, count, failed_topics, results_table

DISK = CheckResult("Disk", "fail", "1 MB free, 9 MB needed", "Free some disk space.")
KEY = CheckResult("Key", "warn", "not known [bold]yet", "Check again.")
FILES = CheckResult("Files", "pass", "all 9 images can be read")


def shown(findings, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(results_table("st-mary", findings))
    return console.file.getvalue()


def test_every_verdict_has_a_sign_and_a_word():
    lines = [line.split() for line in shown([FILES, KEY, DISK]).splitlines()]
    assert lines[0] == ["st-mary:", "1", "pass,", "1", "warn,", "1", "fail"]
    assert [line[:3] for line in lines[2:]] == [["Files", "✔", "pass"], ["Key", "!", "warn"], ["Disk", "✘", "fail"]]
    assert "not known [bold]yet" in shown([KEY])


def test_there_is_a_column_of_remedies_only_if_there_are_any():
    assert "What to do" not in shown([FILES])
    assert "Free some disk space." in shown([FILES, DISK])


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut_off(width):
    long = CheckResult("Training step", "fail", "q" * 150, "z" * 150)
    text = shown([long], width)
    assert (text.count("q"), text.count("z")) == (150, 150)
    assert max(map(len, text.splitlines())) <= width


def test_json_and_failures():
    assert json.loads(json.dumps(DISK.to_json())) == {
        "topic": "Disk", "verdict": "fail", "found": "1 MB free, 9 MB needed", "remedy": "Free some disk space.",
    }  # fmt: skip
    assert failed_topics([FILES, DISK, KEY]) == ["Disk"]
    assert (count(1, "pair"), count(0, "pair")) == ("1 pair", "0 pairs")
