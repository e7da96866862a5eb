"""Splits that leak on purpose, to measure how much they overestimate: protocols A and B beside C, the split by group.

- C, `split = "groups"`, splits groups and balances the training rows: nothing leaks.
- B, `"images"`, splits single images and then balances: images of one patient, or near-duplicates, are on both sides.
- A, `"balanced-images"`, over-samples before it splits: identical images are on both sides.

Such faults are common where machine learning is applied (Kapoor and Narayanan, Patterns 2023: L1.2, preprocessing on
training and test set, and L3.2, training and test samples that are not independent).

To measure the weights of A and B on rows that they have not seen, C's test rows are first set aside as `held-out`. The
other rows are split with the same `folds`, `fold` and `validation-fraction`. So B trains on about (1 - 1 / folds) times
as many images as C, and A on more distinct images of the classes that it over-samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES, class_counts
from fedbus.errors import SettingsError, SplitError
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.split import HELD_OUT, assign_splits

SAMPLERS = ("ros", "none")
"""Samplers that may follow over-sampling before the split: others would undo it, or interpolate equal images."""


def check_split(settings: Settings) -> None:
    """Check that the sampler can be combined with the split.

    Raises:
        SettingsError: If rows are over-sampled before the split, and the sampler does something else after it.
    """
    if settings.split == "balanced-images" and settings.sampler not in SAMPLERS:
        raise SettingsError(
            'split = "balanced-images" over-samples before it splits, which cannot be combined with '
            f'sampler = "{settings.sampler}".',
            "Use --set sampler=ros or --set sampler=none; or another --set split.",
        )


def leak_splits(
    site: str, labels: Sequence[str], splits: Sequence[str], settings: Settings
) -> tuple[list[int], list[str]]:
    """Split a site's rows again so that they leak, with the test rows of its split by group set aside.

    Args:
        site: Name of the site, for errors, and part of the seeds.
        labels: One of `CLASSES` per row.
        splits: Result of `assign_splits` for the true groups.
        settings: Its `split`, which is not `groups`, `folds`, `fold`, `validation-fraction` and `split-seed`.

    Returns:
        Positions in `labels`, ascending, over-sampled ones repeated; and the split of each entry. Held-out rows occur
        once; under `images`, every row does.

    Raises:
        SplitError: If a class has too few images.
    """
    y = np.array([CLASSES.index(label) for label in labels])
    rest = np.flatnonzero(np.array(splits) != "test")
    if settings.split == "balanced-images":
        rest = _over_sample(rest, y[rest], derive_seed(settings.split_seed, "over-sample", site, settings.fold))
    try:
        again = assign_splits(
            site,
            [labels[i] for i in rest.tolist()],
            [str(entry) for entry in range(len(rest))],  # every entry is a separate group: that is the leak
            folds=settings.folds,
            fold=settings.fold,
            validation_fraction=settings.validation_fraction,
            seed=derive_seed(settings.split_seed, "images"),
        )
    except SplitError as error:
        raise SplitError(
            f"{site}: split = {settings.split} sets the test rows of split = groups aside, and can't split the other "
            f"{len(rest)} in three ({class_counts(y[rest])}).",
            "Use fewer folds (--set folds=3), more images of the rarest class, or --set split=groups.",
        ) from error
    held = [(i, HELD_OUT) for i, split in enumerate(splits) if split == "test"]
    entries = sorted([*zip(rest.tolist(), again, strict=True), *held], key=lambda entry: entry[0])
    return [i for i, _ in entries], [split for _, split in entries]


def _over_sample(rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Repeat rows at random until each class has as many as the largest; every row stays."""
    from imblearn.over_sampling import RandomOverSampler

    chosen, _ = RandomOverSampler(random_state=seed % 2**32).fit_resample(rows[:, None], labels)
    return np.sort(np.asarray(chosen[:, 0], dtype=np.int64))
