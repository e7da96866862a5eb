"""The comparison as tables: for the terminal (rich) and for documents (GitHub markdown)."""

import html
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording

HEADLINE = ("accuracy", "macro_f1", "auc")
"""Metrics given with their interval on all test images."""

BY_SITE = ("auc", "macro_f1")
"""Metrics given for each hospital."""

NOTE = "Values (95 % interval, test groups redrawn), ± standard deviation where several seeds were trained."


def comparison_table(results: dict[str, Any]) -> Table:
    """Lay out arms (rows) by metrics on all test images, with 95 % intervals, and by AUC and macro F1 a site.

    It fits 110 columns with three hospitals, and folds where the terminal is narrower.
    """
    table = _table(results, "Which training does best?", f"{_note(results)} all: all test images. F1: macro F1.")
    table.add_column("", overflow="fold")
    for metric in HEADLINE:
        table.add_column(f"{wording.METRICS[metric]}\nall", overflow="fold")
    for site in wording.site_names(results):
        table.add_column(Text(f"{site}\nAUC  F1"), overflow="fold")
    for family, arms in _families(results):
        table.add_section()
        table.add_row(Text(family, style="bold"))
        for arm in arms:
            table.add_row(*(Text(cell) for cell in _comparison_row(results, arm)))
    return table


def recall_table(results: dict[str, Any]) -> Table:
    """Lay out the recall of each class (columns) at each test set, for the arms that all hospitals share.

    A recall below that of guessing one of three classes is marked with the word LOST.
    """
    note = f"LOST: recall below {wording.number(wording.GUESSING)}, that of guessing. n: test images of the class."
    table = _table(results, "Is a class being lost?", f"Recall (95 % interval). {note}")
    table.add_column("")
    table.add_column("tested on")
    for label in results["classes"]:
        table.add_column(f"recall of {label}")
    for arm in wording.shared_arms(results):
        table.add_section()
        for place, site in enumerate(wording.test_sets(results)):
            name = Text(wording.arm_label(arm) if place == 0 else "", style="bold")
            cells = [Text(_recall_cell(results, arm, site, label)) for label in results["classes"]]
            table.add_row(name, Text(wording.site_label(site)), *cells)
    return table


def differences_table(results: dict[str, Any]) -> Table:
    """Lay out every paired difference, federated less its reference, with its verdict in words."""
    note = "inconclusive: the interval includes 0. Not corrected for the number of comparisons."
    table = _table(results, "What does federating change?", f"Paired difference (95 % interval). {note}")
    for heading in ("arm", "less", "tested on", "metric", "difference", "the arm is"):
        table.add_column(heading)
    for (arm, reference), rows in groupby(
        results.get("differences", []), key=lambda row: (row["arm"], row["reference"])
    ):
        table.add_section()
        for place, row in enumerate(rows):
            names = (wording.arm_label(arm), wording.arm_label(reference)) if place == 0 else ("", "")
            found = wording.verdict(row)
            table.add_row(
                *(Text(name) for name in names),
                Text(wording.site_label(row["site"])),
                wording.METRICS.get(row["metric"], row["metric"]),
                wording.with_interval(row, signed=True),
                Text(found, style="bold" if found in ("higher", "lower") else ""),
            )
    return table


def markdown_table(results: dict[str, Any]) -> str:
    """Write the comparison as a GitHub markdown table, ending in a newline, site names escaped."""
    headings = ["", *(f"{wording.METRICS[metric]}, all" for metric in HEADLINE)]
    headings += [f"{site}: AUC macro F1" for site in wording.site_names(results)]
    lines = [headings, ["---"] * len(headings)]
    for family, arms in _families(results):
        lines.append([f"**{family}**", *[""] * (len(headings) - 1)])
        for arm in arms:
            lines.append(_comparison_row(results, arm))
    head, rule, *body = ["| " + " | ".join(_markdown_cell(cell) for cell in line) + " |" for line in lines]
    above = [f"**{wording.PHANTOMS}**", ""] if results["phantoms"] else []
    return "\n".join([*above, head, rule, *body, "", _note(results)]) + "\n"


def _table(results: dict[str, Any], title: str, caption: str) -> Table:
    title = f"{wording.PHANTOMS}\n{title}" if results["phantoms"] else title
    return Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _note(results: dict[str, Any]) -> str:
    return f"{NOTE} {wording.note_on_auc(results)}".rstrip()


def _families(results: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for family, arms in groupby(wording.ordered_arms(results), key=wording.family):
        yield family, list(arms)


def _comparison_row(results: dict[str, Any], arm: str) -> list[str]:
    everywhere = wording.scores(results, arm, "all")
    row = [wording.arm_label(arm), *(wording.with_interval(everywhere.get(metric)) for metric in HEADLINE)]
    for site in wording.site_names(results):
        there = wording.scores(results, arm, site)
        row.append(" ".join(wording.value(there.get(metric)) for metric in BY_SITE))
    return row


def _recall_cell(results: dict[str, Any], arm: str, site: str, label: str) -> str:
    found = wording.recall(results, arm, site, label)
    images = wording.tested(results, site, label)
    if found is None:
        return "no such images" if images == 0 else wording.MISSING
    lost = " LOST" if found["value"] < wording.GUESSING else ""
    return f"{wording.with_interval(found)} n={images}{lost}"


def _markdown_cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
