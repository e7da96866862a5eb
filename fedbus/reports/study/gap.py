"""How far each federated cell of a study is from centralised training, and from each site's own model."""

from functools import partial
from typing import Any

from markupsafe import Markup
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.reports.templates import render_fragment
from fedbus.reports.terminal_table import FittedTable, add_figure_column, add_label_column, difference_cell, new_table

HEADING = "The gap"

HEADINGS = (
    "val.\nF1", "AUC mean of sites\nminus centralised", "not\nworse",
    "AUC minus\ncentralised", "macro F1 minus\ncentralised",
)  # fmt: skip
"""Headings of the columns that compare with the centralised arm."""

NOTE = (
    "Paired differences on the same test images with 95 % intervals: federated minus centralised, as the mean of sites "
    "and on all test images, and federated minus the site's own model on the site's test images. Bold, gains, loses: "
    "the interval excludes 0. Not worse: the lower end of the mean of sites is above −.01."
)


def gap_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per cell, federated arm and centralised arm, in the order of the study.

    Returns:
        One dict per row: {"cell", "arm", "reference": the centralised arm, "validation": macro F1 or None, "mean" and
        "pooled": {"auc", "macro_f1": difference to the centralised arm}, as the mean of sites and on all test images,
        "not_worse": `shown`, `not shown`, or empty if unknown, "own": {site: difference in AUC to the site's own
        model}}. Empty if the study has no references.
    """
    rows = []
    for name, cell in content["cells"].items():
        for arm, references in (cell.get("gap") or {}).items():
            own = {key.removeprefix("local-"): value for key, value in references.items() if key.startswith("local-")}
            claims = (cell.get("claims") or {}).get(arm) or {"not_worse": {}}
            row = {
                "cell": name,
                "arm": arm,
                "validation": (cell.get("validation", {}).get(arm) or {}).get("macro_f1"),
                "own": {site: places[site].get("auc") for site, places in own.items()},
            }
            for reference in [key for key in references if not key.startswith("local")] or ["centralised"]:
                places = references.get(reference) or {}
                compared = {
                    "reference": reference,
                    "mean": places.get(MEAN) or {},
                    "pooled": places.get(ALL) or {},
                    "not_worse": (claims["not_worse"].get(reference) or {}).get("verdict", ""),
                }
                rows.append(row | compared)
    return rows


def row_label(row: dict[str, Any]) -> str:
    """Name a row for readers: its cell, and its arms where they are not FedAvg and the centralised arm."""
    arm = "" if row["arm"] == "fedavg" else wording.arm_label(row["arm"])
    reference = "" if row["reference"] == "centralised" else f"against {wording.arm_label(row['reference'])}"
    what = " ".join(part for part in (arm, reference) if part)
    return f"{row['cell']} ({what})" if what else str(row["cell"])


def gap_table(content: dict[str, Any]) -> FittedTable:
    """Lay out the rows for the terminal."""
    sites = list(content["sites"])
    table = partial(_table, content)
    return FittedTable(
        partial(table, sites),
        partial(table, sites, stacked=True),
        *(partial(_split, content, per_table) for per_table in range(len(sites), 0, -1)),
    )


def gap_fragment(content: dict[str, Any]) -> Markup:
    """Lay out the rows for the page, with all text escaped."""
    return render_fragment(
        "study/gap.html",
        results=content,
        rows=gap_rows(content),
        row_label=row_label,
        sites=list(content["sites"]),
        note=NOTE,
    )


def _table(content: dict[str, Any], sites: list[str], *, pooled: bool = True, stacked: bool = False) -> Table:
    table = new_table(HEADING, NOTE if pooled else "", phantoms=content["phantoms"])
    add_label_column(table)
    if pooled:
        for heading in HEADINGS:
            add_figure_column(table, heading)
    for site in sites:
        add_figure_column(table, f"AUC at {site}\nminus own model")
    for row in gap_rows(content):
        cells = [Text(row_label(row))]
        if pooled:
            differences = (row["mean"].get("auc"), row["pooled"].get("auc"), row["pooled"].get("macro_f1"))
            mean, *others = (difference_cell(found, stacked=stacked) for found in differences)
            cells += [Text(wording.number(row["validation"])), mean, Text(row["not_worse"]), *others]
        table.add_row(*cells, *(_own_cell(row["own"].get(site), stacked=stacked) for site in sites))
    return table


def _own_cell(difference: dict[str, Any] | None, *, stacked: bool) -> Text:
    """Write a site's difference to its own model, with the word gains or loses if the interval excludes 0."""
    word = {"higher": "gains", "lower": "loses"}.get(wording.verdict(difference) if difference else "", "")
    cell = difference_cell(difference, stacked=stacked)
    return cell.append(("\n" if stacked else " ") + word) if word else cell


def _split(content: dict[str, Any], per_table: int) -> Group:
    """One table for all test images, and further tables of `per_table` sites each."""
    sites = list(content["sites"])
    chunks = [sites[start : start + per_table] for start in range(0, len(sites), per_table)]
    return Group(
        _table(content, [], stacked=True), *(_table(content, chunk, pooled=False, stacked=True) for chunk in chunks)
    )
