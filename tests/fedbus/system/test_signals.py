"""Ctrl-C, SIGTERM and a closed terminal clean up; a second one neither interrupts that nor prints a traceback."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedbus.system.signals import kept_handlers, on_signals
from tests.fedbus.system.test_processes import is_gone, wait_until

ROOT = Path(__file__).resolve().parents[3]

WORK = """
import sys, time
from pathlib import Path
from fedbus.system.signals import handle_signals
from fedbus.system.terminal import resumable
handle_signals()
with resumable("Finished rounds", "--resume"):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        for _ in range(int(sys.argv[1])):
            sys.stdin.readline()
        print("cleaned", flush=True)
"""

WATCHED = """
import sys, threading, time
from fedbus.system.signals import handle_signals, stops_on_signals
handle_signals()
stop = threading.Event()
with stops_on_signals(stop):
    print("working", flush=True)
    while not stop.wait(0.01):
        pass
    print("cleaning", flush=True)
    if len(sys.argv) > 2:
        time.sleep(60)
print("cleaned", flush=True)
"""

GROUP = """
import subprocess, sys, time
from fedbus.system.signals import handle_signals
handle_signals()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
try:
    print(child.pid, flush=True)
    time.sleep(60)
finally:
    print("cleaning", flush=True)
    while True:
        time.sleep(60)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    def hear_of_a_closed_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, preexec_fn=hear_of_a_closed_terminal,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word or not word:
            return line.strip()
    raise AssertionError(f"it ended without {word!r}: {process.communicate()}")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_cleans_up_says_how_to_resume_and_gives_the_shells_exit_status(name):
    number = getattr(signal, name)
    process = start(WORK, "0")
    read_until(process, "working")
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[:2] == ["cleaning", "cleaned"]
    assert "rerun the same command with: --resume" in said
    assert errors == ""


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_second_signal_does_not_interrupt_the_clean_up(second):
    process = start(WORK, "1")
    read_until(process, "working")
    process.send_signal(signal.SIGINT)
    read_until(process, "cleaning")
    process.send_signal(getattr(signal, second))
    assert process.stderr is not None
    assert "Press Ctrl-C again" in process.stderr.readline() + process.stderr.readline()
    said, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 130
    assert "cleaned" in said
    assert "Traceback" not in errors


def test_the_third_signal_ends_the_process_and_its_children_at_once():
    process = start(GROUP)
    child = int(read_until(process, ""))
    process.send_signal(signal.SIGTERM)
    read_until(process, "cleaning")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "Press Ctrl-C again" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert wait_until(lambda: is_gone(child))


def test_the_first_signal_of_a_service_sets_its_event_and_the_second_interrupts_it():
    process = start(WATCHED, "0")
    read_until(process, "working")
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, said, errors) == (0, "cleaning\ncleaned\n", "")
    process = start(WATCHED, "0", "slowly")
    read_until(process, "working")
    process.send_signal(signal.SIGINT)
    read_until(process, "cleaning")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert "cleaned" not in said
    assert process.returncode != 0


def test_under_nohup_a_closed_terminal_ends_nothing():
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WORK}"
    process = start(code, "0")
    read_until(process, "working")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_handlers_are_restored_after_a_library_and_after_a_block():
    before = signal.getsignal(signal.SIGTERM)
    with kept_handlers():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before
    with on_signals(lambda count: None):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_a_library_is_left_alone():
    errors = []

    def work() -> None:
        try:
            with kept_handlers():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
