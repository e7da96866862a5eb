"""What an operator is shown of an audit log, and what a start says about it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fedbus.audit.check import BROKEN, MOST_FAULTS, check_at_start, print_log
from fedbus.audit.head import HEAD_FILE
from fedbus.audit.log import AuditLog


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path)
    log.record("init", host="hub.example.org")
    log.record("update sent", round=1, sha256="ab" * 32, numbers=["confusion", "loss-sums"])
    return log


def shown(log: AuditLog) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=100)
    code = print_log(log, console)
    return code, console.file.getvalue()


def told(log: AuditLog) -> list[str]:
    lines: list[str] = []
    check_at_start(log, lines.append)
    return lines


def change(log: AuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b'"round":1', b'"round":2'))


def test_every_entry_is_a_row_with_its_details_and_digest(log):
    code, text = shown(log)
    assert code == 0
    words = " ".join(text.split())
    for entry, digest in log.read().entries:
        assert f"{entry.number} {entry.time[:19].replace('T', ' ')} {digest[:12]} {entry.event} " in words
    assert "numbers: confusion, loss-sums; round: 1; sha256: abababababab…" in words
    assert f"the last is 2 with SHA-256 {log.read().entries[-1][1]}" in words


def test_a_broken_chain_is_named_with_exit_code_1(log):
    change(log)
    code, text = shown(log)
    assert code == 1
    assert "line 2 was changed or replaced" in " ".join(text.split())


def test_a_start_names_a_broken_chain_each_time_and_records_it_once(log):
    change(log)
    for _ in range(3):
        lines = told(log)
        assert all(line.startswith("WARNING: ") for line in lines)
        assert any("line 2 was changed or replaced" in line for line in lines)
        assert [entry.event for entry, _ in log.read().entries] == ["init", "update sent", BROKEN]
    assert log.read().entries[-1][0].details["faults"] == [
        "line 2 was changed or replaced: its digest is not the one that was recorded"
    ]


def test_another_break_is_recorded_too(log):
    change(log)
    told(log)
    log.path.write_bytes(log.path.read_bytes().replace(b"hub.example.org", b"hub.example.com"))
    told(log)
    assert [entry.event for entry, _ in log.read().entries] == ["init", "update sent", BROKEN, BROKEN]


def test_a_start_tells_how_an_intact_log_ends_so_that_its_output_keeps_the_digest(log):
    assert told(log) == [f"audit log: 2 entries, chain intact; the last is 2 with SHA-256 {log.read().entries[-1][1]}"]


def test_a_file_that_was_rewritten_line_by_line_is_described_in_a_few_lines(log):
    for number in range(30):
        log.record("update sent", round=number)
    log.path.write_bytes(log.path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(log.read().faults) == 33  # every line, and the end
    assert len(told(log)) == MOST_FAULTS + 3
    assert len(log.read().entries[-1][0].details["faults"]) == MOST_FAULTS


def test_a_log_that_does_not_begin_with_init_says_so(tmp_path):
    log = AuditLog(tmp_path)
    log.record("joined")
    assert "does not begin with init" in shown(log)[1]


def test_a_log_that_went_on_without_its_head_shows_that(log):
    (log.folder / HEAD_FILE).unlink()
    log.record("joined")
    code, text = shown(log)
    assert code == 0
    assert "Entry 3 records an earlier fault: head was missing." in text


def test_text_in_a_changed_file_can_not_forge_lines_of_the_terminal(log):
    line = json.loads(log.path.read_bytes().splitlines()[1]) | {"event": "\x1b[2Kfine\nfine"}
    with log.path.open("ab") as file:
        file.write(json.dumps(line | {"number": 3}, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    text = shown(log)[1]
    assert "\x1b" not in text
    assert "\nfine" not in text
