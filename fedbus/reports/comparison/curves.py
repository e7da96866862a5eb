"""Figures of training as SVG: validation by round, and the classes before and after balancing."""

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedbus.reports import style, wording

Histories = dict[str, list[dict[str, Any]]]
"""By arm, one dict per round."""

Dashes = str | tuple[int, tuple[int, int]]

SITE_LINES = (
    style.ORANGE,
    style.VERMILLION,
    style.PURPLE,
    style.SKY,
    style.BLUE,
    style.GREEN,
    style.INK,
)
ARM_LINES = {
    wording.ALONE: (style.ORANGE, style.VERMILLION, style.PURPLE, style.MUTED),
    wording.POOLED: (style.BLUE,),
    wording.FEDERATED: (style.GREEN, style.SKY, style.INK, style.YELLOW),
}
DASHES: dict[str, Dashes] = {wording.ALONE: (0, (5, 2)), wording.POOLED: "solid", wording.FEDERATED: "solid"}
MARKERS = {wording.ALONE: "", wording.POOLED: "s", wording.FEDERATED: "D"}


def validation_curves(results: dict[str, Any], histories: Histories) -> str:
    """Draw training loss, validation loss and validation macro F1 by round, one line per arm.

    A ring marks the best round. Empty without histories.
    """
    if not any(histories.get(arm) for arm in results["arms"]):
        return ""
    description = "Training loss, validation loss and validation macro F1 by round, one line per arm."
    return style.svg("curves", description, results["phantoms"], lambda: _curves(results, histories))


def shared_curves(results: dict[str, Any], histories: Histories) -> str:
    """Draw validation macro F1 by site, if known, and recall by class: a column per centralised or federated arm."""
    arms = [arm for arm in wording.shared_arms(results) if histories.get(arm)]
    if not arms:
        return ""
    by_site = "" if wording.totals_only(results) else "Validation macro F1 of each site (above) and "
    description = f"{by_site}recall of each class{' (below)' if by_site else ''} by round, in the "
    description += "centralised and federated arms."
    return style.svg("shared", description, results["phantoms"], lambda: _shared(results, histories, arms))


def class_balance(results: dict[str, Any]) -> str:
    """Draw the training images of each class at each site, before and after balancing."""
    description = "Training images of each class at each site, before and after balancing."
    return style.svg("balance", description, results["phantoms"], lambda: _balance(results))


def _curves(results: dict[str, Any], histories: Histories) -> Figure:
    series: list[tuple[str, Callable[[dict[str, Any]], float | None]]] = [
        ("training loss", lambda entry: entry.get("train_loss")),
        ("validation loss", lambda entry: (entry.get("validation") or {}).get("loss")),
        ("validation macro F1", lambda entry: (entry.get("validation") or {}).get("macro_f1")),
    ]
    arms = [arm for arm in wording.ordered_arms(results) if histories.get(arm)]
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    panels = figure.subplots(1, len(series))
    for axes, (title, take) in zip(panels, series, strict=True):
        for arm, colour in arm_colours(arms).items():
            family = wording.family(arm)
            history = histories[arm]
            _line(axes, history, take, colour, wording.arm_label(arm), DASHES[family], MARKERS[family])
            best = results.get("work", {}).get(arm, {}).get("best_round")
            ring = [(e["round"], take(e)) for e in history if e["round"] == best and take(e) is not None]
            axes.plot(
                [r for r, _ in ring], [v for _, v in ring], "o", markersize=10, markerfacecolor="none",
                markeredgecolor=colour, markeredgewidth=1.3,
            )  # fmt: skip
        axes.set_title(title)
        _rounds_axis(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=8.5)
    return figure


def _shared(results: dict[str, Any], histories: Histories, arms: list[str]) -> Figure:
    sites, classes = wording.scored_sites(results), results["classes"]
    titles = [*(["macro F1 by site"] if sites else []), "recall by class"]
    figure = Figure(figsize=(10, 4.9 if sites else 3.0), layout="constrained")
    grid = figure.subplots(len(titles), len(arms), squeeze=False, sharey=True, sharex=True)
    for column, arm in zip(grid.T, arms, strict=True):
        for place, site in enumerate(sites):
            colour, marker = SITE_LINES[place % len(SITE_LINES)], "os^Dv"[place % 5]
            _line(column[0], histories[arm], _at_site(site), colour, site, "solid", marker)
        for label, colour, marker in zip(classes, style.CLASS_COLOURS, "os^", strict=False):
            _line(column[-1], histories[arm], _of_class(label), colour, label, "solid", marker)
        for axes in column:
            _rounds_axis(axes)
            axes.set_ylim(-0.03, 1.03)
            axes.set_xlabel("")
        column[0].set_title(wording.arm_label(arm))
        column[-1].set_xlabel("round")
    for row, title in zip(grid, titles, strict=True):
        row[0].set_ylabel(title)
        row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8.5)
    return figure


def arm_colours(arms: list[str]) -> dict[str, str]:
    """Assign each arm a colour of its family; the first of a family has the same one as in the other figures."""
    colours = {family: cycle(chosen) for family, chosen in ARM_LINES.items()}
    return {arm: next(colours[wording.family(arm)]) for arm in arms}


def _at_site(site: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda entry: ((entry.get("sites") or {}).get(site) or {}).get("macro_f1")


def _of_class(label: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda entry: ((entry.get("validation") or {}).get("recall") or {}).get(label)


def _line(
    axes: Axes,
    history: list[dict[str, Any]],
    take: Callable[[dict[str, Any]], float | None],
    colour: str,
    label: str,
    dashes: Dashes,
    marker: str,
) -> None:
    points = [(entry["round"], take(entry)) for entry in history]
    known = [(number, value) for number, value in points if value is not None]
    axes.plot(
        [number for number, _ in known],
        [value for _, value in known],
        color=colour,
        label=label,
        linestyle=dashes,
        marker=marker,
        markersize=3.5,
        linewidth=1.6,
    )


def _rounds_axis(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")


def _balance(results: dict[str, Any]) -> Figure:
    sites, classes = wording.site_names(results), results["classes"]
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sites), sharey=True))
    places = np.arange(len(classes))
    for axes, site in zip(panels, sites, strict=True):
        found = results["sites"][site]
        before = [found.get("splits", {}).get("train", {}).get(label, 0) for label in classes]
        after = [found.get("balanced", {}).get(label, 0) for label in classes]
        for shift, counts, colour, hatch, name in (
            (-0.2, before, style.BLUE, "", "distinct images"),
            (0.2, after, style.SKY, "///", "after balancing"),
        ):
            bars = axes.bar(places + shift, counts, 0.38, color=colour, hatch=hatch, edgecolor="white", label=name)
            axes.bar_label(bars, fontsize=8, padding=2)
        axes.set_title(site)
        axes.set_xticks(places, classes)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.15)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5)
    return figure
