"""What all cases share: settings, a mark on every process, what may not be left behind, and the comparison of bits."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fedbus.runs.folder import SETTINGS_FILE
from fedbus.system.scratch import PREFIX, RAY_PREFIX, SHARED_MEMORY

SEEDS = (1, 2, 3)
"""Each process is killed once per seed, which chooses the moment."""

ROUNDS = 6
PATIENCE_SECONDS = 600.0
END_SECONDS = 60.0
"""How long processes may take to end after the one that they belong to was killed."""

MARK = "FEDBUS_SOAK"

SETTINGS = {
    "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 8, "rounds": ROUNDS, "folds": 3,
    "bootstrap": 20, "learning-rate": 0.01, "device": "cpu", "precision": "float32", "phantom-images": 40,
    "arms": "fedavg",
}  # fmt: skip

WEIGHTS = ("best.safetensors", "final.safetensors")


class SkippedError(Exception):
    """A case that this machine does not allow; the text says why."""


class FaultError(Exception):
    """A case that did not end as it must."""


@dataclass
class Workplace:
    """Where the cases of one call work.

    Attributes:
        folder: An empty folder.
        mark: In the environment of every process that is started.
    """

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of every process."""
        return os.environ | {MARK: self.mark, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}

    def start(self, words: list[str], log: Path, **options: object) -> subprocess.Popen[bytes]:
        """Start a FedBUS command in its own process group."""
        environment = self.environment | dict(options.pop("environment", {}))  # type: ignore[call-overload]
        with log.open("wb") as output:
            return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
                [sys.executable, "-m", "fedbus", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, start_new_session=True, **options,
            )  # fmt: skip

    def compare(self, out: Path, *more: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a comparison."""
        sets = [f"--set={key}={value}" for key, value in (SETTINGS | {"cache": self.folder / "cache"}).items()]
        log = options.pop("log", out.with_suffix(".log"))
        return self.start(["compare", *sets, "--out", str(out), *more], log, **options)  # type: ignore[arg-type]

    def processes(self) -> list[psutil.Process]:
        """List the running processes of the cases."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def expect_nothing_left(self) -> None:
        """Check that no process is running, and that `fedbus clean` leaves nothing of a killed one.

        Raises:
            FaultError: If something is left. Without a process there is no open port either.
        """
        wait_until(lambda: not self.processes(), END_SECONDS, lambda: f"still running: {titles(self.processes())}")
        self.start(["clean"], self.folder / "clean.log").wait(PATIENCE_SECONDS)
        left = [*SHARED_MEMORY.glob(f"{PREFIX}*"), *Path("/tmp").glob(f"{RAY_PREFIX}*")]
        pids = {str(process.pid) for process in psutil.process_iter()}
        if left := [path for path in left if path.name.split("-")[1] not in pids]:
            raise FaultError(f"left behind: {left}")


def titles(processes: list[psutil.Process]) -> list[str]:
    """Describe processes for a message."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            found.append(" ".join(process.cmdline())[:80])
    return found


def wait_until(ready: Callable[[], object], seconds: float, reason: Callable[[], str]) -> None:
    """Wait until something holds.

    Raises:
        FaultError: If it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise FaultError(reason())
        time.sleep(0.05)


def rounds_of(out: Path) -> int:
    """Count the finished rounds of a run."""
    path = out / "arms" / "fedavg" / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def kill_at_random(out: Path, run: subprocess.Popen[bytes], find: Callable[[], list[psutil.Process]], seed: int) -> str:
    """Kill a process at a random moment of a run: after some rounds, and up to a second later.

    Args:
        out: The run folder.
        run: The command that runs it.
        find: Lists the processes of the kind to kill.
        seed: Chooses the moment, and the process if there are several.

    Returns:
        A description of the moment.
    """
    chance = random.Random(seed)
    after, pause = chance.randrange(ROUNDS - 1), chance.random()
    wait_until(
        lambda: ((out / SETTINGS_FILE).is_file() and rounds_of(out) >= after and find()) or run.poll() is not None,
        PATIENCE_SECONDS,
        lambda: "no round",
    )
    time.sleep(pause)
    targets = find()
    if not targets:
        raise FaultError(f"nothing to kill after {after} rounds")
    chance.choice(sorted(targets, key=lambda process: process.pid)).send_signal(signal.SIGKILL)
    return f"{pause:.2f} s after round {after}"


def weights_of(out: Path) -> dict[str, str]:
    """Return the digests of a run's weights: equal only if every bit is."""
    arm = out / "arms" / "fedavg"
    return {name: hashlib.sha256((arm / name).read_bytes()).hexdigest() for name in WEIGHTS if (arm / name).is_file()}


def expect_same_weights(out: Path, uncut: dict[str, str]) -> None:
    """Check that a run ended with the weights of the uncut one.

    Raises:
        FaultError: If it did not.
    """
    if not uncut or weights_of(out) != uncut:
        raise FaultError(f"other weights than uncut: {weights_of(out)}")


def expect_end(process: subprocess.Popen[bytes], log: Path, *, code: int | None = 0, words: str = "") -> None:
    """Check how a command ends, and that it prints these words and no traceback.

    Raises:
        FaultError: If it ends otherwise, or not within `PATIENCE_SECONDS`.
    """
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise FaultError(f"it does not end: {log.read_text()[-300:]}") from None
    said = " ".join(log.read_text(errors="replace").split())
    if code is not None and process.returncode != code:
        raise FaultError(f"exit status {process.returncode}: {said[-400:]}")
    if words not in said or "Traceback" in said:
        raise FaultError(f"it printed: {said[-400:]}")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a command and its group at the end of a block, whatever happens in it."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
