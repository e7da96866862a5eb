"""The rows of `predictions.csv`."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.evaluation.binned_counts import MALIGNANT
from fedbus.evaluation.calibration import Calibration
from fedbus.predict.decode import Decoded

COLUMNS = ("file", "frame", *CLASSES, "class", "above_threshold", "unlike_training", "distance")

YES, NO, UNKNOWN = "yes", "no", ""

DECIMALS = 6


def rows(
    images: Sequence[Decoded],
    probabilities: NDArray[np.float64],
    calibration: Calibration | None,
    distances: NDArray[np.float64] | None,
) -> Iterator[list[object]]:
    """Build one row per image.

    Args:
        images: The images.
        probabilities: float64 [N, 3], before calibration.
        calibration: Temperature and threshold; without it, probabilities stay as they are and no image has an answer in
            `above_threshold`.
        distances: Distance of each image from the training images in feature space, relative to the limit; None if the
            model has no such test.
    """
    shown = calibration.apply(probabilities) if calibration else probabilities
    threshold = calibration.threshold if calibration else None
    for row, image in enumerate(images):
        distance = None if distances is None else float(distances[row])
        yield [
            image.name,
            UNKNOWN if image.frame is None else image.frame,
            *(f"{value:.{DECIMALS}f}" for value in shown[row]),
            CLASSES[int(probabilities[row].argmax())],
            UNKNOWN if threshold is None else _answer(shown[row, MALIGNANT] >= threshold),
            is_unlike(image, distance),
            UNKNOWN if distance is None else f"{distance:.4g}",
        ]


def is_unlike(image: Decoded, distance: float | None) -> str:
    """Answer whether an image is unlike the training images; unknown if nothing shows that and there is no test."""
    if image.mask_greys:
        return YES
    return UNKNOWN if distance is None else _answer(distance > 1)


def _answer(true: bool | np.bool_) -> str:
    return YES if true else NO
