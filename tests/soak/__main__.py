"""Run the cases one after another, until all are done or the time is over, and print a table.

    python -m tests.soak OUT [--minutes 30] [--only WORDS]

Writes OUT/soak.md, the table for docs/security.md. The exit status is 1 if a case failed.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import psutil

from fedbus.system.files import write_text
from fedbus.system.signals import handle_signals
from tests.soak import conditions, simulation
from tests.soak.case import FaultError, SkippedError, Workplace
from tests.soak.deployment import Deployment


def main(words: Sequence[str] | None = None) -> int:
    """Run the cases; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30, help="start no case after this time")
    parser.add_argument("--only", default="", help="run only cases whose name contains these words")
    given = parser.parse_args(words)
    handle_signals()
    rows, started = list[tuple[str, str, str]](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        place = Workplace(Path(folder))
        deployment = Deployment(place)
        try:
            # By turns, so that every kind is tried if the time ends early. The federation is last: it keeps running.
            listed = [*conditions.list_cases(place), *simulation.list_cases(place), *deployment.list_cases()]
            for name, case in (each for each in listed if given.only in each[0]):
                if time.monotonic() - started > given.minutes * 60:
                    rows.append((name, "not run", "the time was over"))
                else:
                    rows.append((name, *_run(case)))
                    print(*rows[-1], sep=" | ", flush=True)
        finally:
            deployment.close()
            for process in place.processes():
                with suppress(psutil.Error):
                    process.kill()
    write_text(given.out / "soak.md", _table(rows, time.monotonic() - started))
    print(f"Table: {given.out / 'soak.md'}")
    return 1 if any(row[1] == "FAILED" for row in rows) else 0


def _run(case: Callable[[], str]) -> tuple[str, str]:
    """Run a case; return its result in a word, and a description."""
    try:
        return "held", case()
    except SkippedError as reason:
        return "skipped", str(reason)
    except FaultError as reason:
        return "FAILED", str(reason)
    except Exception as error:  # a fault of the case itself must not end the others
        return "FAILED", f"{type(error).__name__}: {error}"


def _table(rows: list[tuple[str, str, str]], seconds: float) -> str:
    """Lay the results out as Markdown."""
    held = sum(row[1] == "held" for row in rows)
    head = f"{held} of {len(rows)} cases held in {seconds / 60:.0f} minutes ({date.today()}, {platform.system()})."
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([head, "", "| case | result | what happened |", "|---|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
