"""The figure of privacy against use: the AUC on test images and that of the membership attack, by epsilon."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedbus.reports import style, wording
from fedbus.reports.forest import legend_mark
from fedbus.reports.membership import GUESSING
from fedbus.reports.study.privacy import bound, epsilon_label, privacy_rows

DESCRIPTION = (
    "Two panels by epsilon, from none to the smallest: AUC on test images, and AUC of the membership attack with the "
    "value of guessing and the bound that epsilon sets. The table of the audit contains the same figures."
)

APART = 0.16
"""Horizontal distance of two arms at one epsilon, so that no interval hides another."""


def privacy_figure(content: dict[str, Any]) -> str:
    """Draw the figure as one `<svg>` element."""
    return style.svg("privacy", DESCRIPTION, content["phantoms"], lambda: _draw(content))


def privacy_figure_png(content: dict[str, Any], path: Path) -> None:
    """Write the figure as PNG, complete or not at all.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    style.png(path, content["phantoms"], lambda: _draw(content))


def _draw(content: dict[str, Any]) -> Figure:
    rows = privacy_rows(content)
    epsilons = sorted({row["epsilon"] for row in rows}, key=lambda epsilon: -(epsilon or float("inf")))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    use, attack = figure.subplots(1, 2)
    for axes, key, title in ((use, "auc", "AUC on test images"), (attack, "attack", "AUC of the attack")):
        for place, arm in enumerate(arms):
            _line(
                axes, [row for row in rows if row["arm"] == arm], key, epsilons, APART * (place - (len(arms) - 1) / 2)
            )
        axes.set_title(f"{title}, mean of sites", pad=8)
        axes.set_xticks(range(len(epsilons)), [epsilon_label(epsilon) for epsilon in epsilons])
        axes.set_xlim(-0.5, len(epsilons) - 0.5)
        axes.set_xlabel("epsilon (smaller: more private)")
        axes.grid(axis="y")
    attack.axhline(GUESSING, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)))
    for place, epsilon in enumerate(epsilons):
        if epsilon:
            attack.hlines(bound(epsilon), place - 0.4, place + 0.4, color=style.MUTED, linewidth=3, alpha=0.5)
    attack.set_ylim(min(0.4, *(row["attack"]["low"] for row in rows)), 1.02)
    handles = [_mark(arm, wording.arm_label(arm)) for arm in arms]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _line(axes: Axes, rows: list[dict[str, Any]], key: str, epsilons: list[float], shift: float) -> None:
    """Draw one arm: its values joined by a line, with their intervals."""
    known = [(epsilons.index(row["epsilon"]) + shift, row[key]) for row in rows if row[key]]
    known.sort(key=lambda pair: pair[0])
    family = wording.family(rows[0]["arm"])
    colour = style.FAMILY_COLOURS[family]
    for place, found in known:
        axes.plot([place, place], [found["low"], found["high"]], color=colour, linewidth=1.8, solid_capstyle="butt")
    places, values = [place for place, _ in known], [found["value"] for _, found in known]
    axes.plot(places, values, style.FAMILY_MARKERS[family], color=colour, linestyle="-", linewidth=0.8, markersize=5.5)


def _mark(arm: str, label: str) -> Any:
    family = wording.family(arm)
    return legend_mark(style.FAMILY_COLOURS[family], style.FAMILY_MARKERS[family], label, filled=True)
