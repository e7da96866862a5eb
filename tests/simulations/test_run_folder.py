"""`compare` and `study` refuse a folder that another process uses, and close theirs to other users."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import RunError
from fedbus.runs.lock import hold_folder
from fedbus.settings.schema import Settings
from simulations.compare import compare
from simulations.studies.grid import load_grid
from simulations.studies.study import run_study

SETTINGS = {
    "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 8, "rounds": 3, "folds": 3,
    "bootstrap": 20, "learning-rate": 0.01, "device": "cpu", "engine": "in-process", "batch-norm": "local",
    "keep": "last", "precision": "float32", "arms": "local,centralised,fedavg,fedavg-blended,fedprox",
}  # fmt: skip

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A comparison that takes a second, without Ray."""
    root = tmp_path_factory.mktemp("data")
    folders = write_phantoms(root / "phantoms", 30, 1)
    sites = [f"--site={name}=phantoms:{path}" for name, path in zip("abc", folders.values(), strict=True)]
    values = SETTINGS | {"arms": "centralised,fedavg", "rounds": 4, "cache": root / "cache"}
    return ["compare", *sites[:2], *(f"--set={key}={value}" for key, value in values.items())]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.extended
def test_a_killed_or_stopped_run_continues_to_the_same_bits_with_nothing_left(words, tmp_path):
    """Killed while it prepares, stopped by SIGTERM after a round: a run ends as it would have without."""
    previous = os.umask(0o022)
    try:
        uncut = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "uncut")])
    finally:
        os.umask(previous)
    assert uncut.exit_code == 0, uncut.output
    assert mode(tmp_path / "uncut") == mode(Path(words[-1].partition("=cache=")[2])) == 0o700
    cut, resume = tmp_path / "cut", list[str]()
    for wanted, number in (("settings.json", signal.SIGKILL), ("arms/*/history.jsonl", signal.SIGTERM)):
        command = [sys.executable, "-m", "fedbus", *words, "--out", str(cut), *resume]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            while not list(cut.glob(wanted)) and run.poll() is None:
                time.sleep(0.02)
            run.send_signal(number)
            said = run.communicate(timeout=600)[0]
        # Or it had ended, if this process had to wait for its turn.
        assert run.returncode in (0, -number if number == signal.SIGKILL else 128 + number), said
        assert "Traceback" not in said
        resume = ["--resume"]
    (cut / "arms" / ".checkpoint.safetensors.abcd1234.safetensors").touch()  # as a kill during a write leaves it
    done = CliRunner().invoke(app, [*words, "--out", str(cut), "--resume"])
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "uncut" / "arms").rglob("*.safetensors"):
        one, other = load_file(path), load_file(cut / path.relative_to(tmp_path / "uncut"))
        assert all((one[key] == other[key]).all() for key in one), path
    assert not [path for path in cut.rglob(".*") if path.name != ".running"]


def test_a_comparison_that_is_running_is_not_run_twice(two_site_settings: Settings, tmp_path):
    with hold_folder(tmp_path / "run"), pytest.raises(RunError, match=f"in use, by process {os.getpid()}"):
        compare(two_site_settings, tmp_path / "run", resume=False, console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_study_that_is_running_is_not_run_twice(tmp_path):
    grid = load_grid("sampling", (f"cache={tmp_path / 'cache'}",), ())
    with hold_folder(tmp_path / "study"), pytest.raises(RunError, match=f"in use, by process {os.getpid()}"):
        run_study(grid, tmp_path / "study", resume=False, console=QUIET)
