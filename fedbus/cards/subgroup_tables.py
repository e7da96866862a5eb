"""The figures of subgroups as tables in Markdown."""

from typing import Any

from fedbus.cards.data_answers import sites_with_subgroups
from fedbus.cards.markdown import prose, table
from fedbus.cards.run import FinishedRun
from fedbus.reports import wording

COLUMNS = {
    "auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity, malignant",
    "specificity": "specificity, malignant",
}  # fmt: skip
"""Figures of a subgroup, with the names that readers see."""

NOTE = (
    "Gap: AUC of the subgroup minus that of the site's other test images. A figure needs 10 patients, or groups where "
    "no patients are known; a subgroup with fewer is suppressed."
)


def subgroup_tables(run: FinishedRun) -> list[str]:
    """Write one table per site and model: subgroups in rows, figures and gap to the rest in columns."""
    sites = sites_with_subgroups(run)
    if not sites:
        return ["None were computed: no site has columns that describe its images or patients."]
    lines = [prose(NOTE)]
    for site in sites:
        found = run.results["subgroups"][site]
        for arm in found["all"]["arms"]:
            rows = [_row("all test images", found["all"], arm, found["unit"])]
            rows += [
                _row(f"{column['name']}: {group['value']}", group, arm, found["unit"])
                for column in found["columns"]
                for group in column["groups"]
            ]
            headings = ["Subgroup", "images", found["unit"], *COLUMNS.values(), "gap in AUC"]
            lines += ["", f"### {prose(f'{site}, {wording.arm_at_site(arm)}')}", "", *table(headings, rows)]
    return lines


def _row(name: str, group: dict[str, Any], arm: str, unit: str) -> list[str]:
    if group.get("suppressed"):
        return [f"{name} ({wording.suppressed(group, unit)})", *[""] * (len(COLUMNS) + 3)]
    figures = group["arms"][arm]
    gap = group["gaps"].get(arm, {}).get("auc") if group["gaps"] else None
    cells = [wording.with_interval(figures.get(key)) for key in COLUMNS]
    return [name, f"{group['images']:,}", f"{group['patients']:,}", *cells, wording.with_interval(gap, signed=True)]
