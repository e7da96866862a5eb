"""Results of a site's check: one line per topic, with a verdict and, where something is to be done, the remedy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from fedbus.system.terminal import BAD, GOOD, plain_table

Verdict = Literal["pass", "warn", "fail"]

SIGNS: dict[Verdict, str] = {"pass": "✔", "warn": "!", "fail": "✘"}

# Blue and orange as in `fedbus check`; a failure also differs from a warning without colour.
STYLES: dict[Verdict, str] = {"pass": GOOD, "warn": "dark_orange", "fail": f"{BAD} reverse"}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    It may be sent to the coordinator, so it names no image, no patient, no file of the dataset and not its folder.

    Attributes:
        topic: What was checked, in one or two words.
        verdict: `fail` prevents the site from taking part; `warn` does not.
        found: What was found, in words and numbers.
        remedy: What the site's operator can do about it, an imperative sentence; empty if there is nothing to do.
    """

    topic: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Convert it to JSON types."""
        return asdict(self)


def failed_topics(results: Sequence[CheckResult]) -> list[str]:
    """Topics of the results that prevent the site from taking part."""
    return [result.topic for result in results if result.verdict == "fail"]


def results_table(site: str, results: Sequence[CheckResult]) -> Table:
    """Lay results out for the terminal; the column of remedies is only there if there are any."""
    counts = ", ".join(f"{sum(result.verdict == verdict for result in results)} {verdict}" for verdict in SIGNS)
    table = plain_table(title=Text(f"{site}: {counts}"))
    table.add_column("Topic", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Found", overflow="fold", ratio=5)
    with_remedies = any(result.remedy for result in results)
    if with_remedies:
        table.add_column("What to do", overflow="fold", ratio=6)
    for result in results:
        sign = Text(f"{SIGNS[result.verdict]} {result.verdict}", style=STYLES[result.verdict])
        cells = [Text(result.topic), sign, Text(result.found)]
        table.add_row(*cells, *([Text(result.remedy)] if with_remedies else []))
    return table


def count(number: int, noun: str) -> str:
    """Write a number with its noun: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
