"""The classes of every model, and counts of them."""

import numpy as np
from numpy.typing import NDArray


def class_counts(labels: NDArray[np.int64]) -> dict[str, int]:
    """Count the rows of each class, in the order of `CLASSES`, absent classes included as 0."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    return {name: int(count) for name, count in zip(CLASSES, counts, strict=True)}


CLASSES = ("benign", "malignant", "normal")
"""The classes of every model, in the order of its outputs, also where a site lacks one."""
