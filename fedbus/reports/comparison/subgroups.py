"""The forest plots of subgroups: the AUC of each with its interval, and its gap to the rest of a site's test images."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedbus.reports import style, wording
from fedbus.reports.forest import draw_mark, furthest, legend_mark, lowest

Row = tuple[str, dict[str, Any] | None]
"""A line of the plot: its name, and the figures of a subgroup; None for the heading of a column."""

ROW = 0.2
"""Height of one arm's line, inches."""


def subgroup_plots(results: dict[str, Any]) -> dict[str, str]:
    """Draw the subgroups of each site that has any; the names of the figures count the sites of the results."""
    return {
        f"subgroups-{place}": _plot(results, site, f"subgroups-{place}")
        for place, (site, found) in enumerate(results.get("subgroups", {}).items())
        if found["columns"]
    }


def subgroups_png(results: dict[str, Any], site: str, path: Path) -> None:
    """Write the plot of one site as PNG, complete or not at all.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    style.png(path, results["phantoms"], lambda: _forest(results["subgroups"][site], site))


def _plot(results: dict[str, Any], site: str, name: str) -> str:
    description = (
        f"Forest plot: AUC of each subgroup of {site} with its 95 % interval, and its gap to the rest. "
        "The table below contains the same figures."
    )
    return style.svg(name, description, results["phantoms"], lambda: _forest(results["subgroups"][site], site))


def _forest(found: dict[str, Any], site: str) -> Figure:
    arms, rows = list(found["all"]["arms"]), _rows(found)
    heights = _heights(rows, len(arms))
    figure = Figure(figsize=(10, ROW * heights[-1] + 1.3), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = [group for _, group in rows if group and not group.get("suppressed")]
    for axes, kind in zip(panels, ("arms", "gaps"), strict=True):
        for (_, group), height in zip(rows, heights, strict=False):
            if group and group.get("suppressed") and kind == "arms":
                text = wording.suppressed(group, found["unit"])
                axes.text(
                    0.01,
                    height,
                    text,
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=8,
                    backgroundcolor="w",
                )
            elif group and not group.get("suppressed"):
                _draw_group(axes, group, arms, height, kind)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
    panels[0].set_xlim(lowest([group["arms"][arm]["auc"] for group in shown for arm in arms], divisions=10), 1.0)
    for arm in arms:
        if everywhere := found["all"]["arms"][arm]["auc"]:
            colour = style.FAMILY_COLOURS[wording.family(arm)]
            panels[0].axvline(everywhere["value"], color=colour, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
    limit = furthest(group["gaps"].get(arm, {}).get("auc") for group in shown for arm in arms) or 0.1
    panels[1].set_xlim(-limit, limit)
    panels[1].axvline(0, color=style.INK, linewidth=1)
    panels[0].set_xlabel("AUC")
    panels[1].set_xlabel("← worse than the rest  |  gap in AUC  |  better →")
    panels[0].set_yticks(heights[: len(rows)], [_name(row, found["unit"]) for row in rows])
    for label, (_, group) in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if group else "bold")
    panels[0].set_ylim(heights[-1] - 0.4, -1)
    panels[0].set_title(site, pad=8)
    handles = [
        legend_mark(
            style.FAMILY_COLOURS[wording.family(arm)], style.FAMILY_MARKERS[wording.family(arm)],
            wording.arm_at_site(arm), filled=True,
        )
        for arm in arms
    ]  # fmt: skip
    handles.append(legend_mark(style.MUTED, "o", "gap inconclusive: interval includes 0", filled=False))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _rows(found: dict[str, Any]) -> list[Row]:
    """List the lines of the plot from the top: all images, then each column with its subgroups."""
    rows: list[Row] = [("all test images", found["all"])]
    for column in found["columns"]:
        rows.append((column["name"], None))
        rows += [(group["value"], group) for group in column["groups"]]
    return rows


def _heights(rows: list[Row], arms: int) -> list[float]:
    """Return the middle of each line, in units of one arm's line, and the lower end of the last."""
    heights, top = [], 0.0
    for _, group in rows:
        size = arms if group and not group.get("suppressed") else 1
        heights.append(top + (size - 1) / 2)
        top += size + 0.6
    return [*heights, top]


def _draw_group(axes: Axes, group: dict[str, Any], arms: list[str], height: float, kind: str) -> None:
    """Draw one subgroup: a mark for each arm, one below the other, with its figures beside the panel."""
    for place, arm in enumerate(arms):
        line = height - (len(arms) - 1) / 2 + place
        metric = group[kind].get(arm, {}).get("auc")
        if kind == "arms" or group["gaps"]:
            text = wording.with_interval(metric, signed=kind == "gaps")
            axes.text(1.015, line, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        if metric:
            filled = kind == "arms" or wording.is_decided(metric)
            draw_mark(axes, line, metric, wording.family(arm), filled=filled)


def _name(row: Row, unit: str) -> str:
    name, group = row
    if group is None or group.get("suppressed"):
        return name
    return f"{name}\n{group['images']} images, {group['patients']} {unit}"
