"""Test scores that sites report to the hub, and their combination over sites: aggregates only, no rows.

`group_sums` explains which sums replace the bootstrap draws, and what they reveal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.group_sums import (
    MOST_IMAGES,
    bounds_of,
    check_counts,
    draw_counts,
    group_covariance,
    read_figure,
    read_whole_numbers,
    sum_of_products,
    unusable,
)
from fedbus.evaluation.measured import CLASS_METRICS, METRICS, summarise
from fedbus.evaluation.metrics import CONFUSION_METRICS, FloatArray
from fedbus.evaluation.predictions import Predictions

CELLS = len(CLASSES) ** 2

CONFUSION, SCATTER, IMAGES, GROUPS = "test-confusion", "test-scatter", "test-images", "test-groups"

FIGURES: dict[str, tuple[str, str | None]] = {
    **{f"test-{name.replace('_', '-')}": (name, None) for name in METRICS},
    **{f"test-{name}-{label}": (name, label) for name in CLASS_METRICS for label in CLASSES},
}
"""By the key of a figure in a message: its metric and, for a metric per class, the class."""


@dataclass(frozen=True, eq=False)
class SiteScores:
    """Scores of one trained model (one seed) on a site's test rows.

    Attributes:
        metrics: As `fedbus.evaluation.evaluate.evaluate` returns them for the site.
        scatter: int64 [9, 9], the sum over groups of x x^T, where x is the flattened 3 x 3 confusion of a group.
    """

    metrics: dict[str, Any]
    scatter: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The flattened confusion matrix, int64 [9]."""
        return np.array(self.metrics["confusion"], dtype=np.int64).ravel()

    @property
    def covariance(self) -> FloatArray:
        """Covariance of `counts` in a bootstrap over the site's groups, float64 [9, 9]."""
        return group_covariance(self.counts, self.scatter, self.metrics["groups"])

    def to_metrics(self) -> dict[str, float | int | list[float] | list[int]]:
        """Flatten the scores to a record: [value, low, high] per figure, or an empty list if it is undefined."""
        figures = {key: bounds_of(self._figure(*place)) for key, place in FIGURES.items()}
        return {
            **figures,
            CONFUSION: [int(count) for count in self.counts],
            SCATTER: [int(product) for product in self.scatter.ravel()],
            IMAGES: int(self.metrics["images"]),
            GROUPS: int(self.metrics["groups"]),
        }

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Self:
        """Read and check a record of `to_metrics` that a site sent; other keys are ignored.

        Raises:
            RunError: If a key is missing, a figure is outside 0..1, is out of order or contradicts the confusion, or
                the counts contradict each other.
        """
        try:
            counts = read_whole_numbers(metrics, CONFUSION, CELLS, MOST_IMAGES)
            scatter = read_whole_numbers(metrics, SCATTER, CELLS**2, MOST_IMAGES**2).reshape(CELLS, CELLS)
            images, groups = (int(read_whole_numbers(metrics, key, 1, MOST_IMAGES)[0]) for key in (IMAGES, GROUPS))
            figures = {key: read_figure(metrics, key) for key in FIGURES}
        except KeyError as error:
            raise unusable(f"{error} is missing") from error
        check_counts(counts, scatter, images, groups, (IMAGES, CONFUSION, SCATTER))
        found: dict[str, Any] = {}
        for key, (name, label) in FIGURES.items():
            _check_figure(key, figures[key], _defined(counts, name, label))
            if label is None:
                found[name] = figures[key]
            else:
                found.setdefault(name, {})[label] = figures[key]
        confusion = counts.reshape(len(CLASSES), -1).tolist()
        return cls({**found, "confusion": confusion, "images": images, "groups": groups}, scatter)

    def _figure(self, name: str, label: str | None) -> dict[str, float] | None:
        figure: dict[str, float] | None = self.metrics[name] if label is None else self.metrics[name][label]
        return figure


def score_site(predictions: Predictions, draws: int, seed: int) -> SiteScores:
    """Score one trained model on the test rows of one site.

    Args:
        predictions: Predictions on rows of that site only.
        draws: Bootstrap draws, at least 1.
        seed: Seed of the draws.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If the rows belong to several sites.
    """
    sites = sorted(set(predictions.sites.tolist()))
    if len(sites) != 1:
        raise RunError(f"The scores of one site were requested for rows of {', '.join(sites)}.", "Select one of them.")
    predicted = predictions.probabilities.argmax(axis=1)
    cells = predictions.labels * len(CLASSES) + predicted
    return SiteScores(evaluate([predictions], draws, seed), sum_of_products(predictions.groups, cells, CELLS))


def pool_sites(scores: Mapping[str, SiteScores], draws: int, seed: int) -> dict[str, Any]:
    """Score a model on the test rows of all sites together, from each site's scores.

    Values are those of the summed confusion matrix, equal to those of `evaluate` on the pooled rows. Intervals are
    percentiles of normally distributed counts with the sites' summed covariance, which approximate the bootstrap if
    the sites together have many groups.

    Args:
        scores: Scores by site.
        draws: Number of draws, at least 1.
        seed: Seed of the draws.

    Returns:
        As `evaluate`, except that "auc" and "ece" are None: they need the scores of single images.

    Raises:
        RunError: If there are no sites.
    """
    if not scores:
        raise RunError("No site scored the model.", "Run it again when sites are connected.")
    counts = np.sum([score.counts for score in scores.values()], axis=0)
    covariance = np.sum([score.covariance for score in scores.values()], axis=0)
    totals = {key: sum(score.metrics[key] for score in scores.values()) for key in ("images", "groups")}
    return {**score_sums(counts, covariance, draws, seed), **totals}


def score_sums(counts: NDArray[np.int64], covariance: FloatArray, draws: int, seed: int) -> dict[str, Any]:
    """Score a model on the rows of several sites, as `pool_sites`, but for the numbers of images and groups.

    Args:
        counts: int64 [9], the sites' confusions, summed.
        covariance: float64 [9, 9], the sites' covariances, summed.
        draws: Number of draws, at least 1.
        seed: Seed of the draws.
    """
    drawn = draw_counts(counts, covariance, draws, seed)
    result: dict[str, Any] = dict.fromkeys(METRICS)
    for name, measure in CONFUSION_METRICS.items():
        shaped = (c.reshape(-1, len(CLASSES), len(CLASSES)) for c in (counts.astype(np.float64), drawn))
        points, sampled = (measure(c) for c in shaped)
        if name in CLASS_METRICS:
            result[name] = {label: summarise(points[:, c], sampled[:, c]) for c, label in enumerate(CLASSES)}
        else:
            result[name] = summarise(points, sampled)
    return {**result, "confusion": counts.reshape(len(CLASSES), -1).tolist()}


def mean_over_seeds(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average metrics over training seeds, in the form of `evaluate`; those of a single seed are returned unchanged.

    Without the draws, the bounds of the intervals can only be averaged. This is exact for seeds that make errors on the
    same patients; otherwise the interval is wider than that of `evaluate`.

    Args:
        runs: Metrics of each seed, as `evaluate` returns them, over the same rows.

    Raises:
        RunError: If the runs are over different rows.
    """
    if len(runs) == 1:
        return runs[0]
    rows = {(run["images"], run["groups"], *np.sum(run["confusion"], axis=1).tolist()) for run in runs}
    if len(rows) != 1:
        raise RunError("Seeds were scored on different test rows.", "Score all of them on the same split.")
    result: dict[str, Any] = {name: mean_figures([run[name] for run in runs]) for name in METRICS}
    for name in CLASS_METRICS:
        result[name] = {label: mean_figures([run[name][label] for run in runs]) for label in CLASSES}
    confusion = np.sum([run["confusion"] for run in runs], axis=0)
    return {**result, "confusion": confusion.tolist(), "images": runs[0]["images"], "groups": runs[0]["groups"]}


def mean_figures(figures: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    """Average a figure over seeds with its bounds and add "spread"; None if it is undefined for one."""
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures):
        return None
    means = {end: float(np.mean([figure[end] for figure in known])) for end in ("value", "low", "high")}
    return means | {"spread": float(np.std([figure["value"] for figure in known], ddof=1))}


def _defined(counts: NDArray[np.int64], name: str, label: str | None) -> float | None:
    """Compute a metric from a confusion [9]: NaN if undefined, None if it does not follow from the confusion."""
    if name not in CONFUSION_METRICS:
        return None
    found = CONFUSION_METRICS[name](counts.reshape(1, len(CLASSES), -1).astype(np.float64))
    return float(found[0] if label is None else found[0, CLASSES.index(label)])


def _check_figure(key: str, figure: dict[str, float] | None, expected: float | None) -> None:
    if figure is not None and expected is not None and not abs(figure["value"] - expected) <= 1e-9:
        raise unusable(f"{key} is not that of its confusion")
