"""Parts of a forest plot: marks with intervals, limits of the axes, and the legend."""

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fedbus.reports import style

_MARKER_SIZE, _EDGE_WIDTH, _INTERVAL_WIDTH = 5.5, 1.4, 1.8


def draw_mark(axes: Axes, height: float, metric: dict[str, Any], family: str, *, filled: bool) -> None:
    """Draw a value, filled or hollow, and its interval as a horizontal line, in the colour of the family of arms."""
    colour = style.FAMILY_COLOURS[family]
    if metric.get("low") is not None and metric.get("high") is not None:
        bounds = [metric["low"], metric["high"]]
        axes.plot(bounds, [height, height], color=colour, linewidth=_INTERVAL_WIDTH, solid_capstyle="butt")
    axes.plot(
        metric["value"], height, style.FAMILY_MARKERS[family], color=colour, markersize=_MARKER_SIZE,
        markerfacecolor=colour if filled else style.PAPER, markeredgewidth=_EDGE_WIDTH, clip_on=False, zorder=3,
    )  # fmt: skip


def lowest(metrics: Iterable[dict[str, Any] | None], divisions: int) -> float:
    """Return where an axis of shares starts, so that no interval is cut.

    Args:
        metrics: What is drawn; None where undefined.
        divisions: Number of steps in [0, 1]; the axis starts a little below a whole step.
    """
    bounds = [m["value"] if m.get("low") is None else m["low"] for m in metrics if m]
    return max(0.0, int(min(bounds, default=0.0) * divisions) / divisions - 0.2 / divisions)


def furthest(differences: Iterable[dict[str, Any] | None]) -> float:
    """Return half the width of an axis of differences; it is symmetric, so that both directions have one scale."""
    return 1.08 * max((abs(d[key] or 0.0) for d in differences if d for key in ("value", "low", "high")), default=0.0)


def legend_mark(colour: str, marker: str, label: str, *, filled: bool) -> Line2D:
    """Create an entry of the legend that looks like `draw_mark`."""
    return Line2D(
        [], [], color=colour, marker=marker, markersize=_MARKER_SIZE, label=label, markeredgewidth=_EDGE_WIDTH,
        linewidth=_INTERVAL_WIDTH, markerfacecolor=colour if filled else style.PAPER,
    )  # fmt: skip
