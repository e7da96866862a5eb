"""How far a metric would move with other patients: groups are redrawn, and metrics weighed by the draw.

A draw is a row of integer weights, how often each image's group was drawn, so one matrix product scores many
draws at once. Images of one patient resemble each other: redrawing images instead of groups would give
intervals that are too narrow. Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile
interval); Field and Welsh, JRSS B 2007 (bootstrap of clusters).
"""

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import SettingsError
from fedbus.evaluation.metrics import FloatArray
from fedbus.seeds import derive_seed

DRAWS_AT_ONCE = 1000
"""Draws held as int64 at once; part of the random stream, so another number gives other draws."""


def draw_weights(groups: NDArray[np.str_], sites: NDArray[np.str_], draws: int, seed: int) -> NDArray[np.uint8]:
    """Redraw each site's groups with replacement, as many as it has.

    A site's draws depend on its name, its group names and the seed alone: every arm scored on the same rows
    gets the same draws, in whatever order the rows lie, and so does a site scored without the others.

    Args:
        groups: [N] names of rows that belong together, unique across sites.
        sites: [N] names of the hospitals, the strata.
        draws: how many, at least 1.
        seed: of the draws.

    Returns:
        uint8 [draws, N]: how often the group of each row was drawn. (A count above 255 has probability 0 for
        all practical purposes: counts are near Poisson with mean 1.)

    Raises:
        SettingsError: fewer than one draw.
    """
    if draws < 1:
        raise SettingsError(f"{draws} bootstrap draws give no interval.", "Ask for 1 or more; 2000 is usual.")
    weights = np.zeros((draws, len(groups)), dtype=np.uint8)
    for site in np.unique(sites):
        at_site = np.flatnonzero(sites == site)
        names, group = np.unique(groups[at_site], return_inverse=True)
        random = np.random.default_rng(derive_seed(seed, "bootstrap", str(site)))
        for start in range(0, draws, DRAWS_AT_ONCE):
            block = weights[start : start + DRAWS_AT_ONCE]
            block[:, at_site] = _count_drawn(random, len(block), len(names))[:, group]
    return weights


def _count_drawn(random: np.random.Generator, draws: int, groups: int) -> NDArray[np.uint8]:
    """Draw `groups` times out of as many, and count: [draws, groups]."""
    drawn = random.integers(groups, size=(draws, groups)) + groups * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * groups)
    return counts.reshape(draws, groups).astype(np.uint8)


def interval(values: FloatArray) -> tuple[float, float]:
    """Give the 95 % percentile interval of values [B]; draws in which it is undefined (NaN) don't count."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
