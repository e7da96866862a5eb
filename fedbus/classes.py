"""The classes of every model, and their counts."""

import numpy as np
from numpy.typing import NDArray

CLASSES = ("benign", "malignant", "normal")
"""The classes of every model, in the order of its outputs, even at a site that lacks one."""


def class_counts(labels: NDArray[np.int64]) -> dict[str, int]:
    """Count the rows of each class, in the order of `CLASSES`; 0 for an absent class."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return {name: int(count) for name, count in zip(CLASSES, counts, strict=True)}
