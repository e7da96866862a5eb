"""Measure the seconds from the command `fedbus compare` to the first optimiser step.

    python -m simulations.benchmarks.startup OUT.json

The settings are those of `fedbus compare` for phantoms, with the local arms only: a federated arm starts Ray besides.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer

from fedbus.errors import RunError
from fedbus.system.files import write_json

STEP = "first optimiser step"
TURNS = 3
LIMIT_SECONDS = 600.0


def main(
    out: Path, images: int = typer.Option(150, help="Images of each phantom site, as in `fedbus compare`.")
) -> None:
    """Start a comparison without any file of an earlier one, then again with its decoded images, and write OUT."""
    folder = out.with_suffix("")
    first, *later = [measure(folder, turn, images) for turn in range(1 + TURNS)]
    write_json(
        out,
        {
            "startup_compare_s": statistics.median(row["seconds"] for row in later),
            "startup_first_compare_s": first["seconds"],
            "startup_compare_cpu_s": statistics.median(row["cpu_seconds"] for row in later),
            "modules": later[-1]["modules"],
        },
    )


def measure(folder: Path, turn: int, images: int) -> dict[str, Any]:
    """Run `fedbus compare` in a process of its own, which ends at the first step.

    Returns:
        Seconds from its start to the step, the processor's seconds, and the number of imported modules.

    Raises:
        RunError: If it does not get there.
    """
    words = ["compare", "--out", str(folder / f"run-{turn}"), "--set", "arms=local"]
    words += ["--set", f"cache={folder / 'cache'}", "--set", f"phantom-images={images}"]
    started = time.time()
    child = [sys.executable, "-c", "from simulations.benchmarks.startup import run_to_step; run_to_step()"]
    done = subprocess.run([*child, *words], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith(STEP)), None)
    if done.returncode != 0 or line is None:
        raise RunError("fedbus compare ended before its first step.", done.stderr[-500:] or "It printed no error.")
    at, cpu, modules = line.removeprefix(STEP).split()
    return {"seconds": float(at) - started, "cpu_seconds": float(cpu), "modules": int(modules)}


def run_to_step() -> None:
    """Run `fedbus` with the arguments of this process until the first optimiser step, print when it begins, and end."""
    from fedbus.cli import main as fedbus

    sys.argv[0] = "fedbus"
    sys.meta_path.insert(0, _WhenImported())
    fedbus()


class _WhenImported:
    """Registers a function for the first step as soon as PyTorch has been imported, and imports nothing itself."""

    def find_spec(self, name: str, *_: object) -> None:
        """Look at what is imported; find nothing."""
        if name == "timm":  # imported after PyTorch, and before any step
            from torch.optim.optimizer import register_optimizer_step_pre_hook

            register_optimizer_step_pre_hook(_end)


def _end(*_: object) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(STEP, time.time(), used.ru_utime + used.ru_stime, len(sys.modules), flush=True)
    os._exit(0)


if __name__ == "__main__":
    typer.run(main)
