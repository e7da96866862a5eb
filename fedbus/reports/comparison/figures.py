"""The headline pictures, as SVG and PNG: every arm with its interval, and what federating changes."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbus.reports import style, wording

DIFFERENCE_METRICS = ("auc", "macro_f1")

ROW = 0.24
"""Height of one line of a forest plot, inches."""


def forest_plot(results: dict[str, Any]) -> str:
    """Draw every arm's two leading metrics with intervals, on every test set; empty without arms."""
    if not results["arms"]:
        return ""
    shown = " and ".join(wording.METRICS[metric] for metric in wording.leading(results))
    description = (
        f"Forest plot: {shown} with 95 % intervals of every arm, on all test images and on those of "
        "each hospital. The same figures stand in the comparison table."
    )
    return style.svg("forest", description, results["phantoms"], lambda: _forest(results, wording.test_sets(results)))


def headline_figure_png(results: dict[str, Any], path: Path) -> None:
    """Write the forest plot of all test images as PNG, whole or not at all.

    Raises:
        RunError: the disk is full or the folder can't be written.
    """
    style.png(path, results["phantoms"], lambda: _forest(results, ["all"]))


def differences_plot(results: dict[str, Any]) -> str:
    """Draw the paired differences in AUC and macro F1 with their intervals; empty if there are none."""
    if not any(row["metric"] in DIFFERENCE_METRICS for row in results.get("differences", [])):
        return ""
    description = (
        "Paired differences in AUC and macro F1, federated less its reference, with 95 % intervals. "
        "Filled marks: the interval excludes 0. The same figures stand in the table of differences."
    )
    return style.svg("differences", description, results["phantoms"], lambda: _differences(results))


def _forest(results: dict[str, Any], sites: list[str]) -> Figure:
    arms, metrics = wording.ordered_arms(results), wording.leading(results)
    height = (ROW * len(arms) + 0.7) * len(sites) + 0.9
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.subplots(len(sites), len(metrics), squeeze=False, sharey=True, sharex="col")
    for row, site in zip(grid, sites, strict=True):
        for axes, metric in zip(row, metrics, strict=True):
            _forest_panel(axes, results, arms, site, metric)
        row[0].set_title("All test images" if site == "all" else site, pad=10)
        size = wording.size(results, site)
        row[-1].set_title(size, loc="right", pad=10, fontweight="normal", fontsize=8.5, color=style.MUTED)
    for axes, metric in zip(grid[-1], metrics, strict=True):
        axes.set_xlabel(wording.METRICS[metric])
        axes.set_xlim(_lowest(results, arms, sites, metric), 1.0)
    handles = _legend(arms, away=len(sites) > 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _forest_panel(axes: Axes, results: dict[str, Any], arms: list[str], site: str, metric: str) -> None:
    pooled = wording.scores(results, "centralised", site).get(metric)
    if pooled:
        axes.axvline(pooled["value"], color=style.BLUE, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
    beside = axes.get_yaxis_transform()
    # Above the first row; rows of few arms are higher, and the heading must not leave the figure.
    heading = -0.6 - 0.6 * min(1.0, len(arms) / 4)
    axes.text(1.015, heading, wording.METRICS[metric], transform=beside, va="center", fontsize=8.5, fontweight="bold")
    for place, arm in enumerate(arms):
        found = wording.scores(results, arm, site).get(metric)
        axes.text(1.015, place, wording.with_interval(found), transform=beside, va="center", fontsize=8.5)
        if found:
            # Hollow: a hospital's model away from home.
            filled = site == "all" or wording.home(arm) in (None, site)
            _mark(axes, place, found, wording.family(arm), filled)
    axes.set_yticks(range(len(arms)), [wording.arm_label(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _mark(axes: Axes, place: float, metric: dict[str, Any], family: str, filled: bool) -> None:
    colour = style.FAMILY_COLOURS[family]
    if metric.get("low") is not None and metric.get("high") is not None:
        axes.plot(
            [metric["low"], metric["high"]],
            [place, place],
            color=colour,
            linewidth=1.8,
            solid_capstyle="butt",
        )
    axes.plot(
        metric["value"], place, style.FAMILY_MARKERS[family], color=colour, markersize=5.5,
        markerfacecolor=colour if filled else style.PAPER, markeredgewidth=1.4, clip_on=False, zorder=3,
    )  # fmt: skip


def _lowest(results: dict[str, Any], arms: list[str], sites: list[str], metric: str) -> float:
    """Start the axis at the tenth below the lowest bound, so that no interval is cut."""
    found = [wording.scores(results, arm, site).get(metric) for arm in arms for site in sites]
    bounds = [m["value"] if m.get("low") is None else m["low"] for m in found if m]
    return max(0.0, int(min(bounds, default=0.0) * 10) / 10 - 0.02)


def _legend(arms: list[str], away: bool) -> list[Line2D]:
    families = dict.fromkeys(wording.family(arm) for arm in arms)
    handles = [_handle(style.FAMILY_COLOURS[f], style.FAMILY_MARKERS[f], f, True) for f in families]
    if away and wording.ALONE in families:
        handles.append(_handle(style.VERMILLION, "o", "alone, tested at another hospital", False))
    return handles


def _handle(colour: str, marker: str, label: str, filled: bool) -> Line2D:
    return Line2D(
        [], [], color=colour, marker=marker, markersize=5.5, linewidth=1.8, label=label, markeredgewidth=1.4,
        markerfacecolor=colour if filled else style.PAPER,
    )  # fmt: skip


def _differences(results: dict[str, Any]) -> Figure:
    found = results["differences"]
    rows = list(
        dict.fromkeys((r["arm"], r["reference"], r["site"]) for r in found if r["metric"] in DIFFERENCE_METRICS)
    )
    figure = Figure(figsize=(10, 0.22 * len(rows) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(DIFFERENCE_METRICS), sharey=True, sharex=True)
    # Symmetric, so that 0 is in the middle and both directions are drawn to the same scale.
    furthest = 1.08 * max(abs(r[key] or 0) for r in found for key in ("value", "low", "high")) or 1
    for axes, metric in zip(panels, DIFFERENCE_METRICS, strict=True):
        values = {(r["arm"], r["reference"], r["site"]): r for r in found if r["metric"] == metric}
        for place, key in enumerate(rows):
            row = values.get(key)
            axes.text(
                1.015, place, wording.with_interval(row, signed=True), transform=axes.get_yaxis_transform(),
                va="center", fontsize=8,
            )  # fmt: skip
            if row and row.get("value") is not None:
                _mark(axes, place, row, wording.FEDERATED, wording.verdict(row) in ("higher", "lower"))
            if place and key[:2] != rows[place - 1][:2]:
                axes.axhline(place - 0.5, color=style.RULE, linewidth=0.8, zorder=0)
        axes.axvline(0, color=style.INK, linewidth=1)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_title(wording.METRICS[metric], fontsize=10)
        axes.set_xlim(-furthest, furthest)
        axes.set_xlabel("← reference better  |  federated better →")
    names = [
        f"{wording.arm_label(arm)} − {wording.arm_label(ref)}, {wording.site_label(site)}" for arm, ref, site in rows
    ]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    handles = [
        _handle(style.GREEN, "D", "interval excludes 0", True),
        _handle(style.GREEN, "D", "inconclusive: interval includes 0", False),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8.5)
    return figure
