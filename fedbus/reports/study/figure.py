"""The figure of a study: every cell with its interval, the default as a line, and the paired differences to it."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedbus.reports import style, wording
from fedbus.reports.forest import draw_mark, furthest, legend_mark, lowest
from fedbus.reports.study.rows import COMPARED, Block, Row, blocks

DESCRIPTION = (
    "Forest plot: AUC and macro F1 of every cell with 95 % intervals, a dashed line at the default's value, and on the "
    "right the paired differences to the default. The table of cells contains the same figures."
)

_LINE, _LONGEST_NAME, _LONGEST_REASON = 0.165, 26, 130
"""Height of a line of text, inches; longest line of a cell's name and longest reason, characters."""


def study_figure(content: dict[str, Any]) -> str:
    """Draw the study as one `<svg>` element; empty without cells."""
    return style.svg("study", DESCRIPTION, content["phantoms"], lambda: _forest(content)) if content["cells"] else ""


def study_figure_png(content: dict[str, Any], path: Path) -> None:
    """Write the figure as PNG, complete or not at all.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    style.png(path, content["phantoms"], lambda: _forest(content))


def _forest(content: dict[str, Any]) -> Figure:
    found = blocks(content)
    heights = [sum(_height(row) for row in block.rows) for block in found]
    figure = Figure(figsize=(10, sum(heights) + 0.62 * len(found) + 0.9), layout="constrained")
    panels = 2 * len(COMPARED)
    grid = figure.subplots(len(found), panels, squeeze=False, sharey="row", sharex="col", height_ratios=heights)
    limit = _difference_limit(found)
    for axes, block in zip(grid, found, strict=True):
        _block(list(axes), block)
    for column, metric in enumerate(COMPARED):
        shown = [row.figure(metric, block.place_of(metric)) for block in found for row in block.rows]
        grid[-1, column].set_xlim(lowest(shown, divisions=20), 1.0)
        grid[-1, column + len(COMPARED)].set_xlim(-limit, limit)
        grid[-1, column].set_xlabel(wording.METRICS[metric])
        grid[-1, column + len(COMPARED)].set_xlabel("← lower  |  higher →")
        for axes in grid[:, column]:
            axes.locator_params(axis="x", nbins=4)
        for axes in grid[:, column + len(COMPARED)]:
            axes.set_xticks(_even_ticks(limit))
    handles = _legend(found)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _block(panels: list[Axes], block: Block) -> None:
    edges = np.cumsum([0.0, *(_height(row) for row in block.rows)])
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    for column, axes in enumerate(panels):
        _panel(axes, block, middles, COMPARED[column % len(COMPARED)], paired=column >= len(COMPARED))
    first = panels[0]
    first.set_yticks(middles, [_label(row) for row in block.rows])
    for label, row in zip(first.get_yticklabels(), block.rows, strict=True):
        label.set_fontweight("bold" if row.default else "normal")
    first.set_ylim(edges[-1], 0)
    _block_heading(panels, block)
    first.set_zorder(2)
    for middle, row in zip(middles, block.rows, strict=True):
        if row.hole:
            _reason(first, middle, row.hole)


def _panel(axes: Axes, block: Block, middles: list[float], metric: str, *, paired: bool) -> None:
    """Draw one metric of a block, or its paired differences to the default."""
    name = block.name_of(metric)
    # The empty line makes room for the block's heading, which is wider than a panel.
    title = f"\n{name} minus default" if paired else f"\n{name}"
    axes.set_title(title, fontsize=8.5, pad=5, fontweight="normal", linespacing=1.7)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    # Reasons for missing figures are written across all panels, so no panel may cover another.
    axes.patch.set_visible(False)
    reference = None if block.default is None else block.default.figure(metric, block.place_of(metric))
    if paired:
        axes.axvline(0.0, color=style.INK, linewidth=0.9, zorder=1)
    elif reference:
        axes.axvline(reference["value"], color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for middle, row in zip(middles, block.rows, strict=True):
        if row.hole or (paired and row.default):
            continue
        if paired:
            _difference(axes, middle, row.difference(metric, block.place_of(metric)), block, row)
        else:
            _estimate(axes, middle, row.figure(metric, block.place_of(metric)), block, row)


def _block_heading(panels: list[Axes], block: Block) -> None:
    """Write title and size of a block above its panels, out of the layout: they are wider than a panel."""
    heading: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction", "annotation_clip": False}
    title = panels[0].annotate(block.title, (0, 1), (0, 21), fontsize=10, fontweight="bold", **heading)
    size = panels[-1].annotate(block.size, (1, 1), (0, 21), ha="right", fontsize=8.5, color=style.MUTED, **heading)
    for text in (title, size):
        text.set_in_layout(False)


def _reason(axes: Axes, middle: float, reason: str) -> None:
    """Write why a cell has no figures, across the panels."""
    box = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.5}
    shortened = textwrap.shorten(reason, _LONGEST_REASON, placeholder=" …")
    beside = axes.get_yaxis_transform()
    text = axes.text(0.0, middle, shortened, transform=beside, va="center", fontsize=8, bbox=box)
    text.set(color=style.ALERT, style="italic", in_layout=False)


def _estimate(axes: Axes, middle: float, metric: dict[str, Any] | None, block: Block, row: Row) -> None:
    """Draw one estimate with its interval, and write its value at the right; hollow if the split leaks."""
    _value(axes, middle, wording.value(metric))
    if metric is not None:
        draw_mark(axes, middle, metric, block.family, filled=not row.leaky)


def _difference(axes: Axes, middle: float, difference: dict[str, Any] | None, block: Block, row: Row) -> None:
    """Draw one paired difference with its interval, and write its value at the right; hollow if inconclusive."""
    decided = difference is not None and wording.is_decided(difference)
    _value(axes, middle, "" if row.leaky else wording.value(difference, signed=True), bold=decided)
    if difference is not None:
        draw_mark(axes, middle, difference, block.family, filled=decided)


def _value(axes: Axes, middle: float, text: str, *, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    axes.text(1.02, middle, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, fontweight=weight)


def _label(row: Row) -> str:
    lines = textwrap.wrap(row.cell, _LONGEST_NAME)
    note = [f"({row.note})"] if row.note else []
    if len(lines) == 1 and note and len(row.cell) + len(note[0]) < _LONGEST_NAME:
        return f"{row.cell} {note[0]}"
    return "\n".join([*lines, *note])


def _height(row: Row) -> float:
    return 0.09 + _LINE * (_label(row).count("\n") + 1)


def _difference_limit(found: Iterable[Block]) -> float:
    shown = (
        row.difference(metric, block.place_of(metric)) for block in found for row in block.rows for metric in COMPARED
    )
    return furthest(shown) or 0.1


def _even_ticks(limit: float) -> list[float]:
    """Return one tick on either side of 0, at a round number."""
    step = next((step for step in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002) if step < 0.8 * limit), 0.001)
    return [-step, 0.0, step]


def _legend(found: list[Block]) -> list[Line2D]:
    rows = [row for block in found for row in block.rows if not row.hole]
    handles = []
    if any(block.default for block in found):
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), label="the default"))
    marks = {}
    if any(row.differences for row in rows):
        marks = {"difference: interval excludes 0": True, "inconclusive: includes 0": False}
    if any(row.leaky for row in rows):
        marks["hollow value: own test images, of a split that leaks"] = False
    return handles + [legend_mark(style.MUTED, "o", label, filled=filled) for label, filled in marks.items()]
