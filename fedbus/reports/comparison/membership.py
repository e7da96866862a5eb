"""The forest plot of the membership audit: AUC and true-positive rate of the attack, beside those of guessing."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedbus.evaluation.membership_attack import LEVELS
from fedbus.evaluation.site_mean import MEAN
from fedbus.reports import style, wording
from fedbus.reports.forest import draw_mark, legend_mark
from fedbus.reports.membership import GUESSING, LEVEL_NAMES, attacked_sites, audited_arms, shown_level

ROW = 0.24
"""Height of one arm's line, inches."""


def membership_plot(results: dict[str, Any]) -> str:
    """Draw every arm at every attacked site and as their mean; empty without an audit."""
    if not audited_arms(results):
        return ""
    description = (
        "Forest plot: AUC and true-positive rate of the membership attack on every arm, with 95 % intervals and the "
        "values of guessing. The table of the audit contains the same figures."
    )
    return style.svg("membership", description, results["phantoms"], lambda: _forest(results["membership"]))


def _forest(membership: dict[str, Any]) -> Figure:
    arms, sites = membership["arms"], attacked_sites(membership)
    level, places = shown_level(arms), [MEAN, *(sites if len(sites) > 1 else [])]
    figure = Figure(figsize=(10, (ROW * len(arms) + 0.75) * len(places) + 0.9), layout="constrained")
    grid = figure.subplots(len(places), 2, squeeze=False, sharey=True, sharex="col")
    names = {"auc": ("AUC", "AUC of the attack"), level: ("TPR", f"TPR at {LEVEL_NAMES[level]} false positives")}
    guessing = {"auc": GUESSING, level: LEVELS[level]}
    for row, place in zip(grid, places, strict=True):
        row[0].set_title("Mean of sites" if place == MEAN else place, pad=10)
        for axes, (metric, (short, _)) in zip(row, names.items(), strict=True):
            _panel(axes, arms, place, metric, short, guessing[metric])
    for axes, (_, name) in zip(grid[-1], names.values(), strict=True):
        axes.set_xlabel(name)
    shown = [found[place] for found in arms.values() for place in places]
    grid[-1][0].set_xlim(min([0.4, *(each["auc"]["low"] for each in shown)]), 1.0)
    grid[-1][1].set_xlim(0.0, max([0.2, *(1.05 * each[level]["high"] for each in shown if each[level])]))
    families = dict.fromkeys(wording.family(arm) for arm in arms)
    handles = [legend_mark(style.FAMILY_COLOURS[f], style.FAMILY_MARKERS[f], f, filled=True) for f in families]
    handles.append(legend_mark(style.MUTED, "o", "interval includes guessing", filled=False))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    return figure


def _panel(axes: Axes, arms: dict[str, Any], place: str, metric: str, heading: str, guessing: float) -> None:
    axes.axvline(guessing, color=style.INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    beside = axes.get_yaxis_transform()
    above = -0.6 - 0.6 * min(1.0, len(arms) / 4)  # the fewer the arms, the higher a row
    axes.text(1.015, above, heading, transform=beside, va="center", fontsize=8.5, fontweight="bold")
    for line, (arm, places) in enumerate(arms.items()):
        figure = places[place][metric]
        axes.text(1.015, line, wording.with_interval(figure), transform=beside, va="center", fontsize=8.5)
        if figure:
            draw_mark(axes, line, figure, wording.family(arm), filled=figure["low"] > guessing)
    axes.set_yticks(range(len(arms)), [wording.arm_label(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
