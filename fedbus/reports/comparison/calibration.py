"""Figures of calibration as SVG: reliability before and after, and decision curves."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbus.evaluation.site_mean import ALL
from fedbus.reports import style, wording
from fedbus.reports.calibration import calibration_rows
from fedbus.reports.comparison.curves import arm_colours
from fedbus.reports.forest import legend_mark

COLUMNS = 4
"""Panels in a row."""

LARGEST = 90.0
"""Area of the largest point, in square points."""


def reliability_diagram(results: dict[str, Any]) -> str:
    """Draw accuracy against confidence for every arm, before and after calibration; empty without calibration."""
    rows = calibration_rows(results)
    if not rows:
        return ""
    description = (
        "Reliability diagrams: the share of correct predictions against their confidence in 15 bins, before and after "
        "calibration, one panel per arm. The table of calibration contains the calibration errors."
    )
    return style.svg("reliability", description, results["phantoms"], lambda: _reliability(rows))


def decision_curves(results: dict[str, Any]) -> str:
    """Draw the net benefit of every arm at thresholds of 1 to 30 %, one panel per test set; empty without any."""
    rows = calibration_rows(results)
    if not rows:
        return ""
    description = (
        "Decision curves: net benefit of acting on a probability of malignant at or above each threshold from 1 to "
        "30 %, compared with acting on all images and on none; one panel per test set."
    )
    thresholds = results["calibration"]["thresholds"]
    return style.svg("decision", description, results["phantoms"], lambda: _decision(rows, thresholds))


def _reliability(rows: list[dict[str, Any]]) -> Figure:
    lines = -(-len(rows) // COLUMNS)
    figure = Figure(figsize=(10, 2.75 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for axes, row in zip(grid.flat, rows, strict=False):
        _reliability_panel(axes, row)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share correct")
    for place, axes in enumerate(grid.flat[: len(rows)]):
        if place + COLUMNS >= len(rows):
            axes.set_xlabel("confidence")
            axes.tick_params(labelbottom=True)
    handles = [
        legend_mark(style.MUTED, "o", "before", filled=False),
        legend_mark(style.GREEN, "o", "after calibration", filled=True),
        Line2D([], [], color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), label="perfect"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


def _reliability_panel(axes: Axes, row: dict[str, Any]) -> None:
    found = row["places"][row["place"]]
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for when, colour, filled in (("before", style.MUTED, False), ("after", style.GREEN, True)):
        bins = {key: np.array(values, dtype=np.float64) for key, values in found[when]["reliability"].items()}
        used = bins["count"] > 0
        count = bins["count"][used]
        confidence, correct = bins["confidence"][used] / count, bins["correct"][used] / count
        axes.plot(confidence, correct, color=colour, linewidth=0.9, alpha=0.6, zorder=2)
        axes.scatter(
            confidence, correct, 8 + LARGEST * count / count.sum(), facecolors=colour if filled else style.PAPER,
            edgecolors=colour, linewidths=1.2, zorder=3, clip_on=False,
        )  # fmt: skip
    axes.set_title(row["label"])
    errors = " → ".join(wording.value(found[when]["ece"]) for when in ("before", "after"))
    axes.text(0.97, 0.05, f"error {errors}", transform=axes.transAxes, ha="right", fontsize=8, color=style.MUTED)
    axes.set_xlim(0.3, 1.0)
    axes.set_ylim(0.0, 1.02)
    axes.grid()


def _decision(rows: list[dict[str, Any]], thresholds: list[float]) -> Figure:
    places = list(dict.fromkeys([ALL, *(place for row in rows for place in row["places"])]))
    places = [place for place in places if any(place in row["places"] for row in rows)]
    lines = -(-len(places) // COLUMNS)
    figure = Figure(figsize=(10, 3.0 * lines + 0.5), layout="constrained")
    grid = figure.subplots(lines, min(COLUMNS, len(places)), squeeze=False, sharex=True)
    colours = arm_colours([row["arm"] for row in rows])
    percent = 100 * np.array(thresholds)
    for axes, place in zip(grid.flat, places, strict=False):
        shown = [row for row in rows if place in row["places"]]
        _decision_panel(axes, shown, place, percent, colours)
    for axes in grid.flat[len(places) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("net benefit")
    handles = [Line2D([], [], color=colours[row["arm"]], linewidth=1.6, label=row["label"]) for row in rows]
    handles += [
        Line2D([], [], color=style.MUTED, linewidth=1.2, linestyle=(0, (1, 1.5)), label="act on all"),
        Line2D([], [], color=style.INK, linewidth=0.9, label="act on none"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8.5)
    return figure


def _decision_panel(
    axes: Axes, rows: list[dict[str, Any]], place: str, percent: "np.ndarray[Any, Any]", colours: dict[str, str]
) -> None:
    curves = {row["arm"]: row["places"][place]["decision_curve"] for row in rows}
    everyone = next(iter(curves.values()))["all"]
    axes.plot(percent, everyone, color=style.MUTED, linewidth=1.2, linestyle=(0, (1, 1.5)))
    axes.axhline(0, color=style.INK, linewidth=0.9)
    for arm, curve in curves.items():
        axes.plot(percent, curve["model"], color=colours[arm], linewidth=1.6)
    highest = max(max(curve["model"]) for curve in curves.values())
    axes.set_ylim(-0.12 * highest - 0.005, 1.08 * max(highest, max(everyone)) + 0.005)
    axes.set_title({ALL: "All test images"}.get(place, place))
    axes.set_xlabel("threshold, %")
    axes.grid()
