"""A study as one picture: every cell with its interval, the default as a line, and what is paired with it."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbus.reports import style as canvas
from fedbus.reports import wording
from fedbus.reports.study.rows import COMPARED, Block, Row, blocks

DESCRIPTION = (
    "Forest plot: AUC and macro F1 of every cell with 95 % intervals, a dashed line at the default's value, and on the "
    "right the paired differences to the default. The same figures stand in the table of the cells."
)

_LINE, _LONGEST_NAME, _LONGEST_REASON = 0.165, 26, 130
"""Height of a line of text, inches; characters of a line of a cell's name, and of a reason."""


def study_figure(content: dict[str, Any]) -> str:
    """Draw the study as one `<svg>` element; empty without cells."""
    return canvas.svg("study", DESCRIPTION, content["phantoms"], lambda: _forest(content)) if content["cells"] else ""


def study_figure_png(content: dict[str, Any], path: Path) -> None:
    """Write the same picture as PNG, whole or not at all.

    Raises:
        RunError: the disk is full or the folder can't be written.
    """
    canvas.png(path, content["phantoms"], lambda: _forest(content))


def _forest(content: dict[str, Any]) -> Figure:
    found = blocks(content)
    heights = [sum(_height(row) for row in block.rows) for block in found]
    figure = Figure(figsize=(10, sum(heights) + 0.62 * len(found) + 0.9), layout="constrained")
    panels = 2 * len(COMPARED)
    grid = figure.subplots(len(found), panels, squeeze=False, sharey="row", sharex="col", height_ratios=heights)
    furthest = _furthest(found)
    for axes, block in zip(grid, found, strict=True):
        _block(list(axes), block)
    for column, metric in enumerate(COMPARED):
        grid[-1, column].set_xlim(_lowest(found, metric), 1.0)
        grid[-1, column + len(COMPARED)].set_xlim(-furthest, furthest)
        grid[-1, column].set_xlabel(wording.METRICS[metric])
        grid[-1, column + len(COMPARED)].set_xlabel("← lower  |  higher →")
        for axes in grid[:, column]:
            axes.locator_params(axis="x", nbins=4)
        for axes in grid[:, column + len(COMPARED)]:
            axes.set_xticks(_even_ticks(furthest))
    handles = _legend(found)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _block(panels: list[Axes], block: Block) -> None:
    edges = np.cumsum([0.0, *(_height(row) for row in block.rows)])
    middles = (edges[:-1] + edges[1:]) / 2
    for column, axes in enumerate(panels):
        metric, paired = COMPARED[column % len(COMPARED)], column >= len(COMPARED)
        name = wording.METRICS[metric]
        # The empty line makes room for the block's heading, which is wider than a panel.
        title = f"\n{name} less default's" if paired else f"\n{name}"
        axes.set_title(title, fontsize=8.5, pad=5, fontweight="normal", linespacing=1.7)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        # Holes are written over all panels, so that none may cover another.
        axes.patch.set_visible(False)
        reference = None if paired or block.default is None else block.default.metrics.get(metric)
        if paired or reference:
            where = 0.0 if paired or reference is None else reference["value"]
            axes.axvline(where, color=canvas.INK, linewidth=0.9, linestyle="-" if paired else (0, (4, 3)), zorder=1)
        for middle, row in zip(middles, block.rows, strict=True):
            if not row.hole:
                figure = row.difference(metric, block.place) if paired else row.metrics.get(metric)
                _mark(axes, float(middle), figure, block, row, paired)
    first = panels[0]
    first.set_yticks(middles.tolist(), [_label(row) for row in block.rows])
    for label, row in zip(first.get_yticklabels(), block.rows, strict=True):
        label.set_fontweight("bold" if row.default else "normal")
    first.set_ylim(edges[-1], 0)
    heading: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction", "annotation_clip": False}
    heading_text = first.annotate(block.title, (0, 1), (0, 21), fontsize=10, fontweight="bold", **heading)
    size = panels[-1].annotate(block.size, (1, 1), (0, 21), ha="right", fontsize=8.5, color=canvas.MUTED, **heading)
    for text in (heading_text, size):
        text.set_in_layout(False)
    first.set_zorder(2)
    for middle, row in zip(middles, block.rows, strict=True):
        if row.hole:
            reason = textwrap.shorten(row.hole, _LONGEST_REASON, placeholder=" …")
            box = {"facecolor": canvas.PAPER, "edgecolor": "none", "pad": 1.5}
            beside = first.get_yaxis_transform()
            shown = first.text(0.0, float(middle), reason, transform=beside, va="center", fontsize=8, bbox=box)
            shown.set(color=canvas.ALERT, style="italic", in_layout=False)


def _mark(axes: Axes, middle: float, figure: dict[str, Any] | None, block: Block, row: Row, paired: bool) -> None:
    """Draw one estimate with its interval, and write its value at the right."""
    if paired and row.default:
        return
    beside = axes.get_yaxis_transform()
    shown = "" if paired and row.leaky else wording.value(figure, signed=paired)
    verdict = wording.verdict(figure) if paired and figure else ""
    weight = "bold" if verdict in ("higher", "lower") else "normal"
    axes.text(1.02, middle, shown, transform=beside, va="center", fontsize=8, fontweight=weight)
    if figure is None:
        return
    colour = canvas.FAMILY_COLOURS[block.family]
    if figure.get("low") is not None and figure.get("high") is not None:
        ends = [figure["low"], figure["high"]]
        axes.plot(ends, [middle, middle], color=colour, linewidth=1.8, solid_capstyle="butt")
    filled = verdict in ("higher", "lower") if paired else not row.leaky
    axes.plot(
        figure["value"], middle, canvas.FAMILY_MARKERS[block.family], color=colour, markersize=5.5,
        markerfacecolor=colour if filled else canvas.PAPER, markeredgewidth=1.4, clip_on=False, zorder=3,
    )  # fmt: skip


def _label(row: Row) -> str:
    lines = textwrap.wrap(row.cell, _LONGEST_NAME)
    note = [f"({row.note})"] if row.note else []
    if len(lines) == 1 and note and len(row.cell) + len(note[0]) < _LONGEST_NAME:
        return f"{row.cell} {note[0]}"
    return "\n".join([*lines, *note])


def _height(row: Row) -> float:
    return 0.09 + _LINE * (_label(row).count("\n") + 1)


def _lowest(found: Iterable[Block], metric: str) -> float:
    """Start the axis below the lowest bound, so that no interval is cut."""
    known = [row.metrics[metric] for block in found for row in block.rows if row.metrics.get(metric)]
    bounds = [figure["value"] if figure.get("low") is None else figure["low"] for figure in known]
    return max(0.0, int(min(bounds, default=0.0) * 20) / 20 - 0.01)


def _furthest(found: Iterable[Block]) -> float:
    """Half the width of the difference panels: symmetric, so that both directions have one scale."""
    shown = [row.difference(metric, block.place) for block in found for row in block.rows for metric in COMPARED]
    bounds = [abs(figure[key] or 0.0) for figure in shown if figure for key in ("value", "low", "high")]
    return 1.08 * max(bounds, default=0.0) or 0.1


def _even_ticks(furthest: float) -> list[float]:
    """One tick on either side of 0, at a round number."""
    step = next((step for step in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002) if step < 0.8 * furthest), 0.001)
    return [-step, 0.0, step]


def _legend(found: list[Block]) -> list[Line2D]:
    rows = [row for block in found for row in block.rows if not row.hole]
    handles = []
    if any(block.default for block in found):
        handles.append(Line2D([], [], color=canvas.INK, linewidth=0.9, linestyle=(0, (4, 3)), label="the default"))
    if any(row.differences for row in rows):
        handles += [
            _handle(True, "difference: interval excludes 0"),
            _handle(False, "inconclusive: includes 0"),
        ]
    if any(row.leaky for row in rows):
        handles.append(_handle(False, "hollow value: own test rows, of a split that leaks"))
    return handles


def _handle(filled: bool, label: str) -> Line2D:
    face = canvas.MUTED if filled else canvas.PAPER
    return Line2D(
        [], [], color=canvas.MUTED, marker="o", markersize=5.5, markerfacecolor=face, markeredgewidth=1.4, label=label
    )
