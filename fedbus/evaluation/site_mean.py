"""The figures of an arm on each site's test rows, on all of them, and their mean over the sites, within folds.

The mean over the sites of each site's own macro AUC is the primary figure. The AUC on all rows also rewards a model for
recognising the hospital, because hospitals differ in their shares of the classes; at a single site this does not help.

With several folds, a figure is computed for each fold and averaged. The scores of different models are never pooled
into one ROC curve, in which a difference of calibration would count as an error. Source: Forman and Scholz,
"Apples-to-apples in cross-validation studies", SIGKDD Explorations 12(1), 2010.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fedbus.errors import RunError
from fedbus.evaluation.measured import COMPARED, Measured, measure
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions
from fedbus.seeds import derive_seed

ALL, MEAN = "all", "mean"
"""Test sets that mean several sites: all rows together, and the mean of the sites' own figures."""

Folds = Sequence[Sequence[Predictions]]
"""The predictions of one arm: for each fold those of each training seed, over the same rows."""


def measure_places(folds: Folds, sites: Sequence[str], draws: int, seed: int) -> dict[str, Measured]:
    """Measure one arm on every test set.

    Groups are drawn within fold and site. All arms that are measured with the same seed get the same draws.

    Args:
        folds: The arm's predictions.
        sites: The sites' names.
        draws: Bootstrap draws, at least 1.
        seed: Seed of the draws of the first fold; those of the others are derived from it.

    Returns:
        By place: each site, `ALL` and `MEAN`.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If there are no folds, a site has no rows, or the seeds of a fold have different rows.
    """
    found = {site: measure_folds([[run.select(site) for run in runs] for runs in folds], draws, seed) for site in sites}
    return {**found, ALL: measure_folds(folds, draws, seed), MEAN: mean_of_sites(found)}


def measure_folds(folds: Folds, draws: int, seed: int) -> Measured:
    """Measure one arm on one test set: the mean over folds of each fold's metrics.

    A fold in which a metric is undefined, on all its rows or in a draw, is left out of the mean there.
    """
    if not folds:
        raise RunError("There are no folds to score.", "Give at least one.")
    found = [measure(runs, draws, seed_of_fold(seed, fold)) for fold, runs in enumerate(folds)]
    return Measured(
        tuple(rows for each in found for rows in each.rows),
        {name: mean_of_defined([each.points[name] for each in found]) for name in found[0].points},
        {name: mean_of_defined([each.sampled[name] for each in found]) for name in found[0].sampled},
        np.sum([each.confusion for each in found if each.confusion is not None], axis=0),
    )


def mean_of_sites(sites: Mapping[str, Measured]) -> Measured:
    """Average the compared metrics over sites, each site counting the same.

    A metric that is undefined at one of the sites has no mean: over fewer sites it would be another figure.
    """
    found = list(sites.values())
    return Measured(
        tuple(rows for each in found for rows in each.rows),
        {name: np.mean([each.points[name] for each in found], axis=0) for name in COMPARED},
        {name: np.mean([each.sampled[name] for each in found], axis=0) for name in COMPARED},
    )


def seed_of_fold(seed: int, fold: int) -> int:
    """Derive the seed of a fold's draws, so that folds are drawn independently; the first fold's is that of a run."""
    return seed if fold == 0 else derive_seed(seed, "fold", fold)


def mean_of_defined(parts: Sequence[FloatArray]) -> FloatArray:
    """Average arrays of one shape element by element, ignoring NaN; NaN where all are."""
    stacked = np.stack(parts)
    defined = ~np.isnan(stacked)
    mean = np.full(stacked.shape[1:], np.nan)
    count = defined.sum(axis=0)
    np.divide(np.where(defined, stacked, 0.0).sum(axis=0), count, out=mean, where=count > 0)
    return mean
