"""Everything that may leave a site, in one list: counts, metrics, its name, and the arrays of the model.

A site checks each of its replies against this list before it sends them. So a mistake elsewhere, or in a later version,
can't leak anything else. `docs/security.md` contains the same list.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from fedbus.evaluation.totals import NUMBERS_OF_TEST
from fedbus.models.batch_norm import MEAN, VARIANCE
from fedbus.secure_aggregation.sealed_shares import SEALED_BYTES
from fedbus.settings.site_name import check_site_name
from fedbus.sites.split import SPLITS
from fedbus.transport.packing import FLAT, Layout, number_of_values
from fedbus.transport.read_values import LIKELIHOOD_SUMS
from fedbus.transport.report import BATCH_NORM_KEY, EPSILON, WEIGHT
from fedbus.transport.secure_records import KEYS, MASKED_NUMBERS, MASKED_VALUES, SEALED, SHARES
from fedbus.transport.summed_report import TEST
from fedbus.transport.summed_score import CLASS_LOSS, LOSS_SUMS
from fedbus.transport.summed_score import CONFUSION as SCORE_CONFUSION
from fedbus.transport.summed_update import SHARE, STEPS, TRAIN_LOSS, SumFormat


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

SUMMED = (
    Item(SHARE, 1, "share of the site in the mean"),
    Item(SCORE_CONFUSION, CLASS_COUNT**2, "validation or test images by true and predicted class"),
    Item(LOSS_SUMS, CLASS_COUNT, "their loss, summed by true class"),
    Item(CLASS_LOSS, 1, "their loss, averaged by class and then over the classes of the site"),
    Item(TRAIN_LOSS, 1, "mean training loss, times the share"),
    Item(STEPS, 1, "optimiser steps"),
    Item(LIKELIHOOD_SUMS, len(GRID), "loss of the validation images, summed, at fixed temperatures"),
    Item(MALIGNANT_BINS, BINS, "malignant validation images by calibrated probability, in whole percents"),
    Item(OTHER_BINS, BINS, "other validation images by calibrated probability, in whole percents"),
    Item(TEST, NUMBERS_OF_TEST, "what is added up about the test: fedbus/evaluation/totals.py"),
)
"""Numbers that a site adds to a sum under secure aggregation; BatchNorm's running statistics are added likewise. They
leave the site only under masks."""

MASKED = (
    Item(KEYS, 1 << 10, "public keys for one sum, and the signature of the site: bytes"),
    Item(SEALED, SEALED_BYTES, "parts of its secrets for another site, encrypted for it: bytes for each"),
    Item(MASKED_VALUES, 4, "the update under masks: bytes per value"),
    Item(MASKED_NUMBERS, 8, "the numbers under masks: bytes per number"),
    Item(SHARES, 1 << 8, "parts of other sites' secrets that remove the masks from the sum: bytes for each site"),
)
"""All that leaves a site under secure aggregation after its registration."""


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


def check_summed(numbers: Mapping[str, ArrayLike], wanted: SumFormat, layout: Layout) -> None:
    """Check what a site adds to a sum, before it is masked.

    Args:
        numbers: The numbers.
        wanted: What is summed.
        layout: The shapes of the model by name.

    Raises:
        RunError: If it contains anything that is not listed, or arrays that are not the model's.
    """
    limits = {item.key: item.values for item in SUMMED}
    limits |= {name: math.prod(shape) for name, shape in layout.items() if name.endswith((MEAN, VARIANCE))}
    wrong = [key for key, value in numbers.items() if key not in limits or np.size(value) > limits[key]]
    wrong += [name for name, shape in wanted.tensors.items() if layout.get(name) != shape]
    if wrong:
        raise _not_listed(sorted(wrong))


def check_masked(name: str, parts: Sequence[bytes], sites: int) -> None:
    """Check a message of secure aggregation before it leaves the site.

    Args:
        name: `KEYS`, `SEALED` or `SHARES`.
        parts: What is sent under this name.
        sites: The number of sites in the session.

    Raises:
        RunError: If it is longer than such a message is.
    """
    most = {item.key: item.values for item in MASKED}[name]
    whole = name == SHARES  # one message with a part for each site
    if len(parts) > (sites if name == SEALED else 1) or any(
        len(part) > most * (sites if whole else 1) for part in parts
    ):
        raise _not_listed([name])


def check_vectors(values: NDArray[np.uint32], numbers: NDArray[np.uint64], wanted: SumFormat) -> None:
    """Check masked vectors before they leave the site.

    Raises:
        RunError: If they have another type or size than what is summed.
    """
    types = (values.dtype, numbers.dtype) == (np.dtype(np.uint32), np.dtype(np.uint64))
    if not types or (values.shape, numbers.shape) != tuple((size,) for size in wanted.size):
        raise _not_listed([MASKED_VALUES, MASKED_NUMBERS])


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
