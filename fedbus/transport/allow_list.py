"""Everything that may leave a hospital, in one list: counts, metrics, its name, and the model's own arrays.

A site checks each of its answers against this list before it hands it over, so that a mistake elsewhere, or in a later
version, stops at the door. `docs/security.md` shows the same list.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import CONFUSION, FIGURES, GROUPS, IMAGES, SCATTER
from fedbus.settings.schema import check_site_name
from fedbus.sites.split import SPLITS
from fedbus.transport.messages import WEIGHT
from fedbus.transport.packing import FLAT, Layout


@dataclass(frozen=True)
class Item:
    """One thing that a message may hold.

    Attributes:
        key: its name in the message.
        values: how many numbers it is at most.
        meaning: in words.
    """

    key: str
    values: int
    meaning: str


COUNT = len(CLASSES)

REGISTRATION = (
    *(Item(f"images-{split}", COUNT, f"images of each class among the {split} rows") for split in SPLITS),
    Item("balanced", COUNT, "training rows of each class after balancing"),
    Item("groups", 1, "groups of images that may not be parted"),
    Item("patients", 1, "known patients"),
    Item("dropped", 1, "images left out as copies"),
    Item("phantoms", 1, "1 if the images are synthetic"),
    Item("image-size", 1, "pixels a side of the prepared images"),
)
"""Numbers with which a site introduces itself, besides its name and the names of the classes."""

REPORT = (
    Item(WEIGHT, 1, "what the average weighs the site by: its training images"),
    Item("confusion", COUNT**2, "validation or test images by true and predicted class"),
    Item("loss-sum", 1, "their summed loss"),
    Item("train-loss", 1, "mean training loss"),
    Item("steps", 1, "optimiser steps"),
    Item("seconds", 1, "time spent"),
)
"""Numbers in every other answer."""

TEST_REPORT = (
    *(Item(key, 3, "a metric on the test rows: value and interval") for key in FIGURES),
    Item(CONFUSION, COUNT**2, "test images by true and predicted class"),
    Item(SCATTER, COUNT**4, "products of those counts, summed over groups: what intervals over all sites need"),
    Item(IMAGES, 1, "test images"),
    Item(GROUPS, 1, "groups of test images"),
)
"""Numbers with which a deployed site answers once at the end, about the kept model."""


def check_registration(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Check an introduction before it leaves the site.

    Raises:
        RunError: it holds anything but what is listed.
    """
    if config.keys() != {"site", "labels"}:
        raise _not_listed(sorted(config.keys() ^ {"site", "labels"}))
    if tuple(config["labels"]) != CLASSES:
        raise _not_listed(["labels"])
    try:
        check_site_name(str(config["site"]))
    except ValueError as error:
        raise _not_listed(["site"]) from error
    _check_numbers(metrics, REGISTRATION)


def check_answer(metrics: Mapping[str, Any], arrays: Mapping[str, tuple[int, ...]], layout: Layout) -> None:
    """Check an answer to an order before it leaves the site.

    Args:
        metrics: its numbers.
        arrays: shapes of its arrays by name; none, if the order was to evaluate.
        layout: shapes of the model by name.

    Raises:
        RunError: it holds anything but what is listed, or arrays that are not the model's.
    """
    _check_numbers(metrics, (*REPORT, *TEST_REPORT))
    flat = sum(math.prod(shape) for shape in layout.values())
    if arrays and arrays != layout and arrays != {FLAT: (flat,)}:
        raise _not_listed(sorted(k for k in arrays.keys() | layout.keys() if arrays.get(k) != layout.get(k)))


def _check_numbers(metrics: Mapping[str, Any], items: tuple[Item, ...]) -> None:
    most = {item.key: item.values for item in items}
    for key, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        sound = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        if key not in most or len(numbers) > most[key] or not sound:
            raise _not_listed([key])


def _not_listed(names: list[str]) -> RunError:
    return RunError(
        f"An answer holds what may not leave a site: {', '.join(names)}.",
        "Add it to fedbus/transport/allow_list.py only if it can't tell of a single image or patient.",
    )
