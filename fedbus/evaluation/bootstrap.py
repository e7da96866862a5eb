"""Bootstrap intervals: how much a metric would vary with other patients.

Groups (patients) are drawn with replacement. A draw is a row of integer weights, the number of times that each image's
group was drawn, so that one matrix product scores many draws at once. Images of a patient resemble each other: drawing
images instead of groups would make intervals too narrow. Sources: Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993 (percentile interval); Field and Welsh, "Bootstrapping clustered data", JRSS B 2007.
"""

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import SettingsError
from fedbus.evaluation.metrics import FloatArray
from fedbus.seeds import derive_seed

DRAWS_AT_ONCE = 1000
"""Draws that are held as int64 at once. Another number would consume the random stream in another order."""


def draw_weights(groups: NDArray[np.str_], sites: NDArray[np.str_], draws: int, seed: int) -> NDArray[np.uint8]:
    """Draw the groups of each site with replacement, as many as the site has.

    The draws of a site depend only on its name, the names of its groups and the seed. All arms that are scored on the
    same rows therefore get the same draws, whatever the order of the rows, and so does a site scored without others.

    Args:
        groups: str [N], names of rows that belong together, unique across sites.
        sites: str [N], names of the sites, the strata.
        draws: Number of draws, at least 1.
        seed: Seed of the draws.

    Returns:
        uint8 [draws, N]: how often the group of each row was drawn. Counts are nearly Poisson with mean 1, so one
        above 255 does not occur in practice.

    Raises:
        SettingsError: If `draws` is less than 1.
    """
    if draws < 1:
        raise SettingsError(f"{draws} bootstrap draws give no interval.", "Request 1 or more; 2000 is usual.")
    weights = np.zeros((draws, len(groups)), dtype=np.uint8)
    for site in np.unique(sites):
        at_site = np.flatnonzero(sites == site)
        names, group = np.unique(groups[at_site], return_inverse=True)
        random = np.random.default_rng(derive_seed(seed, "bootstrap", str(site)))
        for start in range(0, draws, DRAWS_AT_ONCE):
            block = weights[start : start + DRAWS_AT_ONCE]
            block[:, at_site] = _draw_counts(random, len(block), len(names))[:, group]
    return weights


def _draw_counts(random: np.random.Generator, draws: int, groups: int) -> NDArray[np.uint8]:
    """Draw `groups` times from as many groups and count each: uint8 [draws, groups]."""
    drawn = random.integers(groups, size=(draws, groups)) + groups * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * groups)
    return counts.reshape(draws, groups).astype(np.uint8)


def interval(values: FloatArray) -> tuple[float, float]:
    """Compute the 95 % percentile interval of values [B]; undefined ones (NaN) are ignored."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
