"""Children end with their parent, and their output is kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedbus.errors import RunError
from fedbus.system import processes
from fedbus.system.processes import end_child, log_tail, start_child

ROOT = Path(__file__).resolve().parents[3]

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""  # a grandchild inherits that SIGTERM is ignored

PARENT = """
import sys, time
from pathlib import Path
from fedbus.system.processes import start_child
child = start_child([sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


def wait_until(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()[:1] in ("", "Z")


def run_python(code: str, log: Path, settings: dict[str, str] | None = None) -> int:
    return start_child([sys.executable, "-c", code], log, settings).wait(30)


def test_output_and_errors_are_appended_to_the_log(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("before\n")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    assert run_python(code, log) == 3
    assert log.read_text().splitlines() == ["before", "out", "err"]


def test_settings_reach_the_child_on_top_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBUS_INHERITED", "kept")
    monkeypatch.setenv("FEDBUS_CHANGED", "old")
    code = "import os; print(os.environ['FEDBUS_INHERITED'], os.environ['FEDBUS_CHANGED'], os.environ['FEDBUS_NEW'])"
    run_python(code, tmp_path / "log", {"FEDBUS_CHANGED": "new", "FEDBUS_NEW": "more"})
    assert (tmp_path / "log").read_text() == "kept new more\n"
    assert os.environ["FEDBUS_CHANGED"] == "old"


def test_programs_of_this_environment_are_found_whatever_the_path_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    child = start_child([Path(sys.executable).name, "-c", "import sys; print(sys.prefix)"], tmp_path / "log")
    assert child.wait(30) == 0
    assert (tmp_path / "log").read_text().strip() == sys.prefix


def test_a_child_reads_nothing_from_the_terminal(tmp_path):
    assert run_python("import sys; print(repr(sys.stdin.read()))", tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == "''\n"


def test_a_missing_program_is_named(tmp_path):
    with pytest.raises(RunError, match="flower-nowhere can't be started"):
        start_child(["flower-nowhere", "--port", "1"], tmp_path / "log")


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(RunError, match=r"missing/a\.log"):
        start_child([sys.executable, "-c", ""], tmp_path / "missing" / "a.log")


def test_a_child_that_ends_on_sigterm_is_not_killed(tmp_path):
    log = tmp_path / "log"
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    child = start_child([sys.executable, "-c", code], log)
    assert wait_until(lambda: "ready" in log.read_text())
    end_child(child)
    assert child.returncode == 7
    end_child(child)  # once more does no harm


def test_a_child_that_ignores_sigterm_is_killed_and_its_children_too(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "END_TIMEOUT_SECONDS", 0.3)
    log = tmp_path / "log"
    child = start_child([sys.executable, "-c", STUBBORN], log)
    assert wait_until(lambda: log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
    assert not is_gone(grandchild)
    end_child(child)
    assert child.returncode == -signal.SIGKILL
    assert is_gone(grandchild)


def test_processes_left_by_a_child_that_ended_are_ended_too(tmp_path):
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)"
    )
    child = start_child([sys.executable, "-c", code], tmp_path / "log")
    child.wait(30)
    left = int((tmp_path / "log").read_text())
    assert not is_gone(left)
    end_child(child)
    assert is_gone(left)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
        parent.wait(10)
    try:
        assert wait_until(lambda: is_gone(child))
    finally:
        if not is_gone(child):
            os.kill(child, signal.SIGKILL)


def test_the_tail_is_the_last_lines_that_are_not_blank(tmp_path):
    log = tmp_path / "log"
    assert log_tail(log) == "it printed nothing"
    log.write_bytes(b"")
    assert log_tail(log) == "it printed nothing"
    log.write_bytes(b" \n\n")
    assert log_tail(log) == "it printed nothing"
    log.write_text("\n".join(["one", "two", "", "  three  ", "four", "five", "six", "", ""]))
    assert log_tail(log) == "two / three / four / five / six"
    assert log_tail(log, 1) == "six"


def test_the_tail_of_a_long_log_of_any_bytes_is_its_end(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe" * 50_000 + b"\nthe end\n")
    assert log_tail(log, 1) == "the end"
    assert len(log_tail(log)) < 5000
