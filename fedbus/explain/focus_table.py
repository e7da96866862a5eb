"""The table of `fedbus explain RUN --masks` in the terminal."""

from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from fedbus.evaluation.site_mean import ALL
from fedbus.reports import wording
from fedbus.reports.terminal_table import (
    FittedTable,
    add_figure_column,
    add_label_column,
    difference_cell,
    figure_cell,
    new_table,
)
from fedbus.text import NOT_A_DEVICE


def focus_table(results: dict[str, Any]) -> FittedTable:
    """Lay out arms (rows, one for each place) and the shares of their maps inside the lesions.

    Args:
        results: The content of `focus.json`.
    """
    return FittedTable(*(partial(_focus, results, stacked=stacked) for stacked in (False, True)))


def _focus(results: dict[str, Any], *, stacked: bool) -> Table:
    table = new_table("Share of the Grad-CAM maps inside the lesions", _caption(results), phantoms=results["phantoms"])
    add_label_column(table)
    for heading in ("energy", "energy\n− area", "random\nweights", "area", "at most"):
        add_figure_column(table, heading)
    places = dict.fromkeys(place for arm in results["arms"].values() for place in arm if place != ALL)
    for place in (*places, ALL):
        here = {arm: found[place] for arm, found in results["arms"].items() if place in found}
        images = max(found["images"] for found in here.values())
        table.add_section()
        table.add_row(Text(f"{wording.site_label(place)}: {images}", style="bold"))
        for arm, found in here.items():
            trained = found["trained"]
            table.add_row(
                Text(wording.arm_label(arm)),
                figure_cell(trained, stacked=stacked),
                difference_cell(trained and trained["over_area"], stacked=stacked),
                *(figure_cell(found[name], stacked=stacked) for name in ("randomised", "area")),
                Text(wording.value(found["largest"])),
            )
    return table


def _caption(results: dict[str, Any]) -> str:
    height, width = results["map_size"]
    undefined = sum(
        found["images"] - (found["trained"] or {"images": 0})["images"]
        for arm in results["arms"].values()
        for place, found in arm.items()
        if place != ALL
    )
    left_out = sum(sum(counts.values()) for counts in results["left_out"].values())
    return (
        f"Mean over test images and 95 % interval (bootstrap over groups); maps of the predicted class, {height} x "
        f"{width} positions on {results['image_size']} pixels. A map that ignores the image has the share of the area; "
        f"random weights: mean of {results['randomised_networks']} networks; at most: all energy at one position. "
        f"{left_out} test images without a usable lesion mask are left out"
        + (f", and {undefined} maps without energy. " if undefined else ". ")
        + NOT_A_DEVICE
    )
