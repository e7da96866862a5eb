"""Everything that may leave a site, in one list: counts, metrics, its name, and the arrays of the model.

A site checks each of its replies against this list before it sends them. So a mistake elsewhere, or in a later version,
can't leak anything else. `docs/security.md` contains the same list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.binned_counts import BINS
from fedbus.evaluation.calibrated import FIGURES as CALIBRATION_FIGURES
from fedbus.evaluation.metrics import ECE_BINS
from fedbus.evaluation.operating_point import FIGURES as POINT_FIGURES
from fedbus.evaluation.site_calibration import (
    CELLS,
    MALIGNANT_BINS,
    OTHER_BINS,
    RELIABILITY,
    TEST_MALIGNANT_BINS,
    TEST_OTHER_BINS,
    WHEN,
)
from fedbus.evaluation.site_calibration import SCATTER as POINT_SCATTER
from fedbus.evaluation.site_scores import CONFUSION, FIGURES, GROUPS, IMAGES, SCATTER
from fedbus.evaluation.temperature import GRID
from fedbus.settings.site_name import check_site_name
from fedbus.sites.split import SPLITS
from fedbus.transport.packing import FLAT, Layout, number_of_values
from fedbus.transport.read_values import LIKELIHOOD_SUMS
from fedbus.transport.report import BATCH_NORM_KEY, EPSILON, WEIGHT


@dataclass(frozen=True)
class Item:
    """One entry that a message may contain.

    Attributes:
        key: Its name in the message.
        values: The largest number of values that it may have.
        meaning: What it is.
    """

    key: str
    values: int
    meaning: str


CLASS_COUNT = len(CLASSES)

REGISTRATION = (
    *(Item(f"images-{split}", CLASS_COUNT, f"images of each class among the {split} rows") for split in SPLITS),
    Item("balanced", CLASS_COUNT, "training rows of each class after balancing"),
    Item("groups", 1, "groups of images that must stay together"),
    Item("patients", 1, "known patients"),
    Item("dropped", 1, "images left out as duplicates"),
    Item("phantoms", 1, "1 if the images are synthetic"),
    Item("image-size", 1, "side length of the prepared images in pixels"),
)
"""Numbers of a registration, besides the name of the site and the names of the classes."""

REPORT = (
    Item(WEIGHT, 1, "weight of the site in the average: its training images"),
    Item("confusion", CLASS_COUNT**2, "validation or test images by true and predicted class"),
    Item("loss-sums", CLASS_COUNT, "their loss, summed by true class"),
    Item("train-loss", 1, "mean training loss"),
    Item("steps", 1, "optimiser steps"),
    Item("seconds", 1, "time spent"),
)
"""Numbers in every other reply."""

BUDGET = (Item(EPSILON, 1, "epsilon that the site has spent; it follows from registered counts"),)
"""Number that a site adds to its updates, with differential privacy."""

TEST_REPORT = (
    *(Item(key, 3, "a metric on the test rows: value and interval") for key in FIGURES),
    Item(CONFUSION, CLASS_COUNT**2, "test images by true and predicted class"),
    Item(SCATTER, CLASS_COUNT**4, "products of those counts, summed over groups, for intervals over all sites"),
    Item(IMAGES, 1, "test images"),
    Item(GROUPS, 1, "groups of test images"),
    Item(BATCH_NORM_KEY, 1, "whose BatchNorm a given model was tested with"),
)
"""Numbers that a deployed site adds once, at the end, about the best model, or about a given one."""

CALIBRATION = (
    Item(LIKELIHOOD_SUMS, len(GRID), "loss of the validation images, summed, at fixed temperatures"),
    Item(MALIGNANT_BINS, BINS, "malignant validation images by calibrated probability, in whole percents"),
    Item(OTHER_BINS, BINS, "other validation images by calibrated probability, in whole percents"),
    Item(TEST_MALIGNANT_BINS, BINS, "malignant test images by calibrated probability, in whole percents"),
    Item(TEST_OTHER_BINS, BINS, "other test images by calibrated probability, in whole percents"),
    *(
        Item(f"test-{name}-{when}", 3, "calibration on the test rows: value and interval")
        for name in CALIBRATION_FIGURES
        for when in WHEN
    ),
    *(
        Item(f"test-reliability-{name}-{when}", ECE_BINS, "test images, correct ones and sum, by confidence")
        for name in RELIABILITY
        for when in WHEN
    ),
    *(
        Item(f"test-point-{name}", 3, "at the threshold, on the test rows: value and interval")
        for name in POINT_FIGURES
    ),
    Item(CELLS, 4, "malignant and other test images above and below the threshold"),
    Item(POINT_SCATTER, 16, "products of those counts, summed over groups"),
)
"""Numbers that a deployed site adds once, at the end, for temperature and threshold and about the calibrated model."""


def check_registration(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Check a registration before it leaves the site.

    Raises:
        RunError: If it contains anything that is not listed.
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


def check_reply(metrics: Mapping[str, Any], arrays: Mapping[str, tuple[int, ...]], layout: Layout) -> None:
    """Check the reply to an instruction before it leaves the site.

    Args:
        metrics: The numbers of the reply.
        arrays: The shapes of its arrays by name; empty for an evaluation.
        layout: The shapes of the model by name.

    Raises:
        RunError: If it contains anything that is not listed, or arrays that are not the model's.
    """
    _check_numbers(metrics, (*REPORT, *BUDGET, *TEST_REPORT, *CALIBRATION))
    if arrays and arrays != layout and arrays != {FLAT: (number_of_values(layout),)}:
        raise _not_listed(sorted(k for k in arrays.keys() | layout.keys() if arrays.get(k) != layout.get(k)))


def _check_numbers(metrics: Mapping[str, Any], items: tuple[Item, ...]) -> None:
    limits = {item.key: item.values for item in items}
    for key, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        valid = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        if key not in limits or len(numbers) > limits[key] or not valid:
            raise _not_listed([key])


def _not_listed(names: list[str]) -> RunError:
    return RunError(
        f"A reply contains what must not leave a site: {', '.join(names)}.",
        "Add it to fedbus/transport/allow_list.py only if it reveals nothing about a single image or patient.",
    )
