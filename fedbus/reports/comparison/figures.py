"""The forest plots of a comparison, as SVG and PNG: every arm with its interval, and the paired differences."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbus.reports import style, wording
from fedbus.reports.forest import draw_mark, furthest, legend_mark, lowest

DIFFERENCE_METRICS = ("auc", "macro_f1")

ROW = 0.24
"""Height of one line of a forest plot, inches."""


def forest_plot(results: dict[str, Any], sites: list[str] | None = None) -> str:
    """Draw the two leading metrics of every arm with intervals, on every test set; empty without arms.

    Args:
        results: Content of `results.json`.
        sites: The test sets; None: the primary one, all test images, and every site.
    """
    if not results["arms"]:
        return ""
    shown = " and ".join(wording.METRICS[metric] for metric in wording.leading(results))
    description = (
        f"Forest plot: {shown} with 95 % intervals of every arm, on all test images and on those of each site. "
        "The comparison table contains the same figures."
    )
    shown_sites = sites or _with_primary(results, wording.test_sets(results))
    return style.svg("forest", description, results["phantoms"], lambda: _forest(results, shown_sites))


def headline_figure_png(results: dict[str, Any], path: Path) -> None:
    """Write the forest plot of the mean of sites and of all test images as PNG, complete or not at all.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    style.png(path, results["phantoms"], lambda: _forest(results, _with_primary(results, ["all"])))


def differences_plot(results: dict[str, Any]) -> str:
    """Draw the paired differences in AUC and macro F1 with their intervals; empty if there are none."""
    if not any(row["metric"] in DIFFERENCE_METRICS for row in results.get("differences", [])):
        return ""
    description = (
        "Paired differences in AUC and macro F1, an arm minus its reference, with 95 % intervals. "
        "Filled marks: the interval excludes 0. The table of differences contains the same figures."
    )
    return style.svg("differences", description, results["phantoms"], lambda: _differences(results))


def _with_primary(results: dict[str, Any], sites: list[str]) -> list[str]:
    """Put the test set of the primary AUC first."""
    return list(dict.fromkeys((wording.primary(results), *sites)))


def _forest(results: dict[str, Any], sites: list[str]) -> Figure:
    arms, metrics = wording.ordered_arms(results), wording.leading(results)
    height = (ROW * len(arms) + 0.7) * len(sites) + 0.9
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.subplots(len(sites), len(metrics), squeeze=False, sharey=True, sharex="col")
    for row, site in zip(grid, sites, strict=True):
        for axes, metric in zip(row, metrics, strict=True):
            _forest_panel(axes, results, arms, site, metric)
        row[0].set_title({"all": "All test images", "mean": "Mean of sites"}.get(site, site), pad=10)
        size = wording.size(results, site)
        row[-1].set_title(size, loc="right", pad=10, fontweight="normal", fontsize=8.5, color=style.MUTED)
    for axes, metric in zip(grid[-1], metrics, strict=True):
        axes.set_xlabel(wording.METRICS[metric])
        shown = [wording.scores(results, arm, site).get(metric) for arm in arms for site in sites]
        axes.set_xlim(lowest(shown, divisions=10), 1.0)
    handles = _legend(arms, elsewhere=len(sites) > 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _forest_panel(axes: Axes, results: dict[str, Any], arms: list[str], site: str, metric: str) -> None:
    reference = wording.scores(results, "centralised", site).get(metric)
    if reference:
        axes.axvline(reference["value"], color=style.BLUE, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
    beside = axes.get_yaxis_transform()
    # Above the first row. The fewer the arms, the higher a row, and the heading must not leave the figure.
    heading = -0.6 - 0.6 * min(1.0, len(arms) / 4)
    axes.text(1.015, heading, wording.METRICS[metric], transform=beside, va="center", fontsize=8.5, fontweight="bold")
    for place, arm in enumerate(arms):
        scored = wording.scores(results, arm, site).get(metric)
        axes.text(1.015, place, wording.with_interval(scored), transform=beside, va="center", fontsize=8.5)
        if scored:
            at_home = site in ("all", "mean") or wording.home(arm) in (None, site)
            draw_mark(axes, place, scored, wording.family(arm), filled=at_home)
    axes.set_yticks(range(len(arms)), [wording.arm_label(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _legend(arms: list[str], elsewhere: bool) -> list[Line2D]:
    families = dict.fromkeys(wording.family(arm) for arm in arms)
    handles = [legend_mark(style.FAMILY_COLOURS[f], style.FAMILY_MARKERS[f], f, filled=True) for f in families]
    if elsewhere and wording.ALONE in families:
        handles.append(legend_mark(style.VERMILLION, "o", "alone, tested at another site", filled=False))
    return handles


def _differences(results: dict[str, Any]) -> Figure:
    shown = [row for row in results["differences"] if row["metric"] in DIFFERENCE_METRICS]
    rows = list(dict.fromkeys((row["arm"], row["reference"], row["site"]) for row in shown))
    figure = Figure(figsize=(10, 0.22 * len(rows) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(DIFFERENCE_METRICS), sharey=True, sharex=True)
    limit = furthest(results["differences"]) or 1
    for axes, metric in zip(panels, DIFFERENCE_METRICS, strict=True):
        by_row = {(row["arm"], row["reference"], row["site"]): row for row in shown if row["metric"] == metric}
        _differences_panel(axes, rows, by_row)
        federated = all(wording.family(arm) == wording.FEDERATED for arm, _, _ in rows)
        axes.set_xlabel(f"← reference better  |  {'federated' if federated else 'first'} better →")
        axes.set_title(wording.METRICS[metric], fontsize=10)
        axes.set_xlim(-limit, limit)
    names = [
        f"{wording.arm_label(arm)} − {wording.arm_label(ref)}, {wording.site_label(site)}" for arm, ref, site in rows
    ]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    handles = [
        legend_mark(style.GREEN, "D", "interval excludes 0", filled=True),
        legend_mark(style.GREEN, "D", "inconclusive: interval includes 0", filled=False),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8.5)
    return figure


def _differences_panel(
    axes: Axes, rows: list[tuple[str, str, str]], by_row: dict[tuple[str, str, str], dict[str, Any]]
) -> None:
    beside = axes.get_yaxis_transform()
    for place, key in enumerate(rows):
        row = by_row.get(key)
        axes.text(1.015, place, wording.with_interval(row, signed=True), transform=beside, va="center", fontsize=8)
        if row and row.get("value") is not None:
            draw_mark(axes, place, row, wording.FEDERATED, filled=wording.is_decided(row))
        if place and key[:2] != rows[place - 1][:2]:
            axes.axhline(place - 0.5, color=style.RULE, linewidth=0.8, zorder=0)
    axes.axvline(0, color=style.INK, linewidth=1)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
