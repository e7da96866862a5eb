"""Conditions of a machine under which a comparison must end with the usual weights or a clear error, losing nothing."""

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.soak.case import (
    PATIENCE_SECONDS,
    FaultError,
    SkippedError,
    Workplace,
    ended,
    expect_end,
    expect_same_weights,
    rounds_of,
    wait_until,
)
from tests.soak.simulation import resume, uncut_weights

SMALL_FILE_BYTES = 120_000
"""Less than a checkpoint, more than the decoded images."""

NOBODY = 65534

JUMPING_CLOCK = """
import time
_time, _start = time.time, time.monotonic()
def _jump():
    passed = int(time.monotonic() - _start)
    return _time() + (0, 7200, -7200)[passed // 3 % 3]
time.time = _jump
"""
"""Python imports it at its start: every three seconds the clock is set to two hours earlier or later."""


def list_cases(place: Workplace) -> Iterator[tuple[str, Callable[[], str]]]:
    """List the cases, each with the function that runs it and describes what was done."""
    for name, case in {
        "files can't grow (RLIMIT_FSIZE)": _small_files, "disk full (a small tmpfs)": _full_disk,
        "read-only output folder": _read_only, "two commands in one folder": _two_commands,
        "Ctrl-C twice": _twice, "SIGTERM": _terminated, "a clock that jumps": _clock,
        "a user without root": _without_root, "proxy variables": _proxies,
    }.items():  # fmt: skip
        yield f"condition: {name}", partial(case, place)


def _small_files(place: Workplace) -> str:
    out = place.folder / "small"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (SMALL_FILE_BYTES, SMALL_FILE_BYTES))
    run = place.compare(out, "--set=engine=in-process", preexec_fn=limit)
    expect_end(run, out.with_suffix(".log"), code=1, words="could not be written")
    resume(place, out)
    return "an error that names the file; resumed to the same weights"


def _full_disk(place: Workplace) -> str:
    out = place.folder / "full"
    out.mkdir()
    with _mounted(out, "size=300k"):
        run = place.compare(out)
        expect_end(run, out.with_suffix(".log"), code=1, words="could not be written")
        subprocess.run(["mount", "-o", "remount,size=200m", str(out)], check=True)
        resume(place, out)
    return "an error that names the file; resumed to the same weights"


def _read_only(place: Workplace) -> str:
    out = place.folder / "closed"
    out.mkdir(mode=0o500)
    if os.getuid():
        expect_end(place.compare(out), out.with_suffix(".log"), code=1, words="could not be written")
        return "an error that names the folder"
    with _mounted(out, "ro"):  # root may write into every folder
        expect_end(place.compare(out), out.with_suffix(".log"), code=1, words="could not be written")
    return "an error that names the folder"


def _two_commands(place: Workplace) -> str:
    out = place.folder / "two"
    first = place.compare(out)
    with ended(first):
        wait_until(lambda: rounds_of(out) >= 1, PATIENCE_SECONDS, lambda: "no round")
        log = place.folder / "second.log"
        second = place.start(["compare", "--out", str(out), "--resume"], log)
        expect_end(second, log, code=1)
        if "in use" not in log.read_text() and "other settings" not in log.read_text():
            raise FaultError(f"the second was not refused: {log.read_text()[-300:]}")
        expect_end(first, out.with_suffix(".log"))
    expect_same_weights(out, uncut_weights(place))
    return "the second is refused, the first ends with the same weights"


def _twice(place: Workplace) -> str:
    return _stop(place, "twice", signal.SIGINT, signal.SIGINT)


def _terminated(place: Workplace) -> str:
    return _stop(place, "terminated", signal.SIGTERM)


def _stop(place: Workplace, name: str, *signals: signal.Signals) -> str:
    out = place.folder / name
    run = place.compare(out)
    with ended(run):
        wait_until(lambda: rounds_of(out) >= 1, PATIENCE_SECONDS, lambda: "no round")
        for number in signals:
            run.send_signal(number)
        expect_end(run, out.with_suffix(".log"), code=128 + signals[0], words="--resume")
    place.expect_nothing_left()
    resume(place, out)
    return "no traceback, nothing left; resumed to the same weights"


def _clock(place: Workplace) -> str:
    folder, out = place.folder / "clock", place.folder / "jumping"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING_CLOCK, encoding="utf-8")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    expect_end(place.compare(out, environment={"PYTHONPATH": path}), out.with_suffix(".log"))
    expect_same_weights(out, uncut_weights(place))
    return "the same weights"


def _without_root(place: Workplace) -> str:
    if os.getuid():
        return "all cases are run without root"
    folder = Path("/tmp") / f"soak-{place.mark[:8]}"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    out = folder / "run"
    environment = {"HOME": str(folder), "TMPDIR": "/tmp"}
    log = place.folder / "nobody.log"
    sets = [f"--set=cache={folder / 'cache'}"]
    try:
        run = place.compare(out, *sets, environment=environment, user=NOBODY, group=NOBODY, extra_groups=[], log=log)
        expect_end(run, log)
        expect_same_weights(out, uncut_weights(place))
    except PermissionError as error:
        raise SkippedError(f"other users can't run this Python ({error})") from error
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)
    return "the same weights"


def _proxies(place: Workplace) -> str:
    out, dead = place.folder / "proxies", "http://127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    variables = {name: dead for low in names for name in (low, low.upper())}
    expect_end(place.compare(out, environment=variables), out.with_suffix(".log"))
    expect_same_weights(out, uncut_weights(place))
    return "the same weights through no proxy"


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory on a folder.

    Raises:
        SkippedError: If this machine does not allow it.
    """
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SkippedError(f"mounting is not possible here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
