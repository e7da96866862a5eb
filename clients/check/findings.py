"""What a site's check finds: one line a topic, with its verdict and, where something is to do, the remedy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from fedbus.system.terminal import BAD, GOOD

Verdict = Literal["pass", "warn", "fail"]

SIGNS: dict[Verdict, str] = {"pass": "✔", "warn": "!", "fail": "✘"}

# Blue and orange as in `fedbus check`; that a failure differs from a warning shows without colour, too.
STYLES: dict[Verdict, str] = {"pass": GOOD, "warn": "dark_orange", "fail": f"{BAD} reverse"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    It may be sent to the coordinator: it names no picture, no patient, no file of the archive and not where it lies.

    Attributes:
        topic: one or two words.
        verdict: `fail` keeps the site from taking part; `warn` does not.
        found: what there is, in words and numbers.
        remedy: what the site's operator can do about it, an imperative sentence; empty if nothing is to do.
    """

    topic: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it in JSON types."""
        return asdict(self)


def failed(findings: Sequence[Finding]) -> list[str]:
    """Topics of the findings that keep the site from taking part."""
    return [finding.topic for finding in findings if finding.verdict == "fail"]


def findings_table(site: str, findings: Sequence[Finding]) -> Table:
    """Lay findings out for the terminal; without any remedy, the table has no column for them."""
    counted = ", ".join(f"{sum(f.verdict == verdict for f in findings)} {verdict}" for verdict in SIGNS)
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="bold")
    table.title = Text(f"{site}: {counted}")
    table.add_column("Topic", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Found", overflow="fold", ratio=5)
    with_remedies = any(finding.remedy for finding in findings)
    if with_remedies:
        table.add_column("What to do", overflow="fold", ratio=6)
    for finding in findings:
        sign = Text(f"{SIGNS[finding.verdict]} {finding.verdict}", style=STYLES[finding.verdict])
        cells = [Text(finding.topic), sign, Text(finding.found)]
        table.add_row(*cells, *([Text(finding.remedy)] if with_remedies else []))
    return table


def count(number: int, noun: str) -> str:
    """Spell a number with its noun: `1 picture`, `2 pictures`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
