"""Heat maps as SVG with a number in every cell: arms by test set, recall by class, confusion matrices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fedbus.reports import style, wording

MATRIX_METRICS = {"auc": 0.5, "macro_f1": 0.0}
"""Metrics of the cross-site matrix, with the value at which the colour scale starts; it ends at 1."""


def cross_site_matrix(results: dict[str, Any]) -> str:
    """Draw AUC and macro F1 of every arm (rows) on every test set (columns); empty without arms or sites' figures."""
    if not results["arms"] or wording.totals_only(results):
        return ""
    description = (
        "Cross-site matrix: AUC and macro F1 of every arm at every site. Framed cells: a site's own model on its own "
        "test images."
    )
    return style.svg("matrix", description, results["phantoms"], lambda: _cross_site(results))


def recall_map(results: dict[str, Any]) -> str:
    """Draw each class's recall (columns) in every arm (rows), one panel per test set; empty without arms."""
    if not results["arms"]:
        return ""
    description = "Recall of each class for every arm and test set. Marked with ▼: the class is lost."
    return style.svg("recall", description, results["phantoms"], lambda: _recall(results))


def confusion_matrices(results: dict[str, Any]) -> str:
    """Draw each arm's confusion matrix on all test images, rows the true class; empty without matrices."""
    if not any(wording.scores(results, arm, "all").get("confusion") for arm in results["arms"]):
        return ""
    description = "Confusion matrices on all test images, one per arm. Rows: true class. Columns: predicted class."
    return style.svg("confusion", description, results["phantoms"], lambda: _confusions(results))


def _cross_site(results: dict[str, Any]) -> Figure:
    arms, sites = wording.ordered_arms(results), wording.test_sets(results)
    figure = Figure(figsize=(10, 0.36 * len(arms) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(MATRIX_METRICS), sharey=True)
    for axes, (metric, start) in zip(panels, MATRIX_METRICS.items(), strict=True):
        values = _values([[wording.scores(results, arm, site).get(metric) for site in sites] for arm in arms])
        _heatmap(
            axes, values, ["all", *sites[1:]], [wording.arm_label(arm) for arm in arms], start, missing=wording.MISSING
        )
        axes.axvline(1, color=style.INK, linewidth=1.2)
        axes.set_title(f"{wording.METRICS[metric]} on the test images of", pad=10)
        for row, arm in enumerate(arms):
            if wording.home(arm) in sites:
                column = sites.index(wording.home(arm) or "")
                axes.add_patch(
                    Rectangle((column, row), 1, 1, fill=False, edgecolor=style.VERMILLION, linewidth=2, zorder=4)
                )
    return figure


def _recall(results: dict[str, Any]) -> Figure:
    arms, sites, classes = wording.ordered_arms(results), wording.test_sets(results), results["classes"]
    figure = Figure(figsize=(10, 0.36 * len(arms) + 1.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sites), sharey=True))
    for axes, site in zip(panels, sites, strict=True):
        values = _values([[wording.recall(results, arm, site, label) for label in classes] for arm in arms])
        headings = [f"{label}\nn={wording.tested(results, site, label)}" for label in classes]
        _heatmap(axes, values, headings, [wording.arm_label(arm) for arm in arms], 0.0, mark_below=wording.GUESSING)
        axes.set_title(wording.site_label(site), pad=10)
    return figure


def _confusions(results: dict[str, Any]) -> Figure:
    arms, classes = wording.ordered_arms(results), results["classes"]
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(10, 2.55 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    for axes, arm in zip(panels, arms, strict=False):
        counts = np.array(wording.scores(results, arm, "all").get("confusion") or np.zeros((3, 3)), dtype=float)
        truth = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, truth, out=np.full(counts.shape, np.nan), where=truth > 0)
        _heatmap(axes, shares, classes, classes, 0.0, counts)
        axes.set_title(wording.arm_label(arm), pad=10)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
    return figure


def _values(metrics: list[list[dict[str, Any] | None]]) -> NDArray[np.float64]:
    """Return the values [rows, columns], NaN where a metric is undefined."""
    return np.array([[np.nan if not m or m.get("value") is None else m["value"] for m in row] for row in metrics])


def _heatmap(
    axes: Axes,
    values: NDArray[np.float64],
    columns: Sequence[str],
    rows: Sequence[str],
    start: float,
    counts: NDArray[np.float64] | None = None,
    mark_below: float = 0.0,
    missing: str = "none",
) -> None:
    """Colour values [rows, columns] from `start` to 1, and write each with its count above, or `missing` for NaN."""
    axes.set_facecolor("#f3f3f1")
    axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=style.SHADES, vmin=start, vmax=1, edgecolor="white", linewidth=1.5
    )
    for (row, column), value in np.ndenumerate(values):
        lost = value < mark_below
        text = missing if np.isnan(value) else f"▼ {wording.number(value)}" if lost else wording.number(value)
        if counts is not None:
            text = f"{counts[row, column]:g}\n{text}" if not np.isnan(value) else missing
        dark = (value - start) / (1 - start) > 0.8
        colour = style.MUTED if np.isnan(value) else style.ALERT if lost else "white" if dark else style.INK
        axes.text(
            column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=9,
            linespacing=1.35, fontweight="bold" if lost else "normal",
        )  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("bottom")
    axes.set_ylim(len(rows), 0)
    axes.spines[:].set_visible(False)
