"""The tables of all figures and of the runs that measured them, as Markdown, for docs/performance.md."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulations.benchmarks.other_work import QUIET_SHARE
from simulations.benchmarks.results import Results
from simulations.benchmarks.summary import GPU_FIGURES, Figure, figures_of

GROUPS: Mapping[str, tuple[str, ...]] = {
    "A deployed federation": ("deployment",),
    "Start-up": ("startup",),
    "A machine that others use": ("loaded",),
    "Training": ("engine",),
    "Federation": ("federation", "rounds"),
    "Other frameworks": ("peers",),
    "Inference": ("inference",),
    "Secure aggregation": ("secure",),
    "Growth": ("sites", "images", "models"),
    "GPU": ("gpu",),
}
"""What users feel, and the parts that measure it."""

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Before:
    """What was measured before the latest changes.

    Attributes:
        figures: By key, the value with its date and where it was published.
        rows: By part, the cases with the quantities that were published.
    """

    figures: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]


def short(value: float | str | None) -> str:
    """Write a value with about three digits, and without zeros at both ends; a text is returned unchanged."""
    if value is None or isinstance(value, str):
        return value or ""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{size:,.{digits}f}" if size >= 0.01 or not size else f"{size:.2g}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    text = text.replace(",", " ").removeprefix("0") or "0"
    return (MINUS if value < 0 else "") + text


def missed(results: Results) -> set[str]:
    """Return the keys of all figures that were measured and miss their aims."""
    values = results.figures
    return {
        figure.key
        for figure in all_figures()
        if (value := values.get(figure.key)) is not None and not figure.reached(value)
    }


def all_figures() -> tuple[Figure, ...]:
    """Return the figures of the page, with the aims of the kind of device that each is measured on."""
    return (*figures_of("cpu"), *GPU_FIGURES)


def figures_table(results: Results, before: Before) -> str:
    """Make the table of all figures, grouped by what users feel."""
    lines = ["| figure | | measured | before | aim | |", "|---|---|---|---|---|---|"]
    values = results.figures
    for group, parts in GROUPS.items():
        rows = [figure for figure in all_figures() if figure.part in parts]
        if rows:
            lines.append(f"| **{group}** | | | | | |")
        for figure in rows:
            value, earlier = values.get(figure.key), before.figures.get(figure.key)
            cells = (
                f"`{figure.key}`",
                figure.words,
                "?" if value is None else short(value),
                "" if earlier is None else short(earlier["value"]),
                _aim(figure),
                "" if value is None or not figure.aim else "reached" if figure.reached(value) else "**missed**",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _aim(figure: Figure) -> str:
    if figure.least > -math.inf:
        return f"≥ {f'{figure.least:g}'.removeprefix('0')}"
    return f"≤ {f'{figure.most:g}'.removeprefix('0')}" if figure.most < math.inf else ""


def runs_table(results: Results, before: Before) -> str:
    """Make the table of runs: which parts were measured together, when, on what, and beside how much other work."""
    lines = ["| parts | date | machine | versions | used by other programs |", "|---|---|---|---|---|"]
    for run in sorted({facts["run"] for facts in results.runs.values()}):
        names = [name for name, facts in results.runs.items() if facts["run"] == run]
        facts = results.runs[names[0]]
        shares = [results.runs[name]["other_share"] for name in names if "other_share" in results.runs[name]]
        cells = (", ".join(names), facts["created"][:10], _machine(facts), _versions(facts), _others(shares))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _machine(facts: Mapping[str, Any]) -> str:
    machine = facts["machine"]
    return ", ".join(filter(None, [machine.get("gpu"), machine["cpu"], f"{machine['cores']} cores", machine["memory"]]))


def _versions(facts: Mapping[str, Any]) -> str:
    names = ("python", "torch", "timm", "flwr", "ray")
    return ", ".join(f"{name} {facts['versions'][name]}" for name in names if facts["versions"].get(name))


def _others(shares: Sequence[float]) -> str:
    """Describe the other work beside the parts of a run."""
    if not shares:
        return ""
    if max(shares) <= QUIET_SHARE:
        return f"{max(shares):.0%} at most: a quiet machine"
    return f"{min(shares):.0%} to {max(shares):.0%}" if len(shares) > 1 else f"{shares[0]:.0%}"
