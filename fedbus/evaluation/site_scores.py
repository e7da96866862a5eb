"""Test scores that sites report to the hub, and their combination over sites: aggregates only, no rows.

The bootstrap draws behind the intervals would pool exactly, but they must not be sent: their seed is known, so a hub
could solve them for the prediction on each patient. The covariance of a bootstrap over groups needs no draws: G groups
with counts x_1 .. x_G, drawn G times with replacement, have the expected sum s = sum x and the covariance
sum x x^T - s s^T / G (multinomial draws). Both terms are sums over a site's groups, computed before they leave it, and
those of independent sites add up at the hub. A site with a single group reveals that group's counts; with very few
groups they can almost be inferred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.measured import CLASS_METRICS, METRICS, summarise
from fedbus.evaluation.metrics import CONFUSION_METRICS, FloatArray
from fedbus.evaluation.predictions import Predictions
from fedbus.seeds import derive_seed

CELLS = len(CLASSES) ** 2

MOST_IMAGES = 10_000_000
"""More test images than any site has; up to this number, products of counts are exact in int64."""

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
        sums = self.counts.astype(np.float64)
        covariance: FloatArray = self.scatter - np.outer(sums, sums) / self.metrics["groups"]
        return covariance

    def to_metrics(self) -> dict[str, float | int | list[float] | list[int]]:
        """Flatten the scores to a record: [value, low, high] per figure, or an empty list if it is undefined."""
        figures = {key: _bounds(self._figure(*place)) for key, place in FIGURES.items()}
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
            counts = _read_whole_numbers(metrics, CONFUSION, CELLS, MOST_IMAGES)
            scatter = _read_whole_numbers(metrics, SCATTER, CELLS**2, MOST_IMAGES**2).reshape(CELLS, CELLS)
            images, groups = (int(_read_whole_numbers(metrics, key, 1, MOST_IMAGES)[0]) for key in (IMAGES, GROUPS))
            figures = {key: _read_figure(metrics, key) for key in FIGURES}
        except KeyError as error:
            raise _unusable(f"{error} is missing") from error
        _check_counts(counts, scatter, images, groups)
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
    names, group = np.unique(predictions.groups, return_inverse=True)
    by_group = np.zeros((len(names), CELLS), dtype=np.int64)
    predicted = predictions.probabilities.argmax(axis=1)
    np.add.at(by_group, (group, predictions.labels * len(CLASSES) + predicted), 1)
    return SiteScores(evaluate([predictions], draws, seed), by_group.T @ by_group)


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
    values, vectors = np.linalg.eigh(np.sum([score.covariance for score in scores.values()], axis=0))
    spread = vectors * np.sqrt(np.clip(values, 0, None))  # rounding makes some eigenvalues slightly negative
    normal = np.random.default_rng(derive_seed(seed, "bootstrap", "all")).standard_normal((draws, CELLS))
    # A count of 0 is 0 in every draw of groups; without this, rounding would give rows to a class that no site has.
    drawn = np.where(counts > 0, np.clip(counts + normal @ spread.T, 0, None), 0.0)
    result: dict[str, Any] = dict.fromkeys(METRICS)
    for name, measure in CONFUSION_METRICS.items():
        points, sampled = (measure(c.reshape(-1, len(CLASSES), len(CLASSES))) for c in (counts * 1.0, drawn))
        if name in CLASS_METRICS:
            result[name] = {label: summarise(points[:, c], sampled[:, c]) for c, label in enumerate(CLASSES)}
        else:
            result[name] = summarise(points, sampled)
    totals = {key: sum(score.metrics[key] for score in scores.values()) for key in ("images", "groups")}
    return {**result, "confusion": counts.reshape(len(CLASSES), -1).tolist(), **totals}


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
    result: dict[str, Any] = {name: _mean([run[name] for run in runs]) for name in METRICS}
    for name in CLASS_METRICS:
        result[name] = {label: _mean([run[name][label] for run in runs]) for label in CLASSES}
    confusion = np.sum([run["confusion"] for run in runs], axis=0)
    return {**result, "confusion": confusion.tolist(), "images": runs[0]["images"], "groups": runs[0]["groups"]}


def _mean(figures: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures):
        return None
    means = {end: float(np.mean([figure[end] for figure in known])) for end in ("value", "low", "high")}
    return means | {"spread": float(np.std([figure["value"] for figure in known], ddof=1))}


def _bounds(figure: dict[str, float] | None) -> list[float]:
    return [] if figure is None else [figure["value"], figure["low"], figure["high"]]


def _read_whole_numbers(metrics: Mapping[str, Any], key: str, length: int, most: int) -> NDArray[np.int64]:
    """Read integers in 0..`most`, int64 [length]; a single number counts as a list of one."""
    try:
        numbers = np.atleast_1d(np.array(metrics[key]))
    except ValueError as error:  # lists of unequal length
        raise _unusable(f"{key} is no list of numbers") from error
    if numbers.dtype.kind not in "iu" or numbers.shape != (length,):
        raise _unusable(f"{key} is not {length} whole numbers")
    if numbers.min() < 0 or numbers.max() > most:
        raise _unusable(f"{key} is out of range")
    return numbers.astype(np.int64)


def _read_figure(metrics: Mapping[str, Any], key: str) -> dict[str, float] | None:
    """Read [value, low, high] in 0..1, or an empty list."""
    numbers = metrics[key]
    if not isinstance(numbers, list) or not all(isinstance(n, float) and 0 <= n <= 1 for n in numbers):
        raise _unusable(f"{key} is no list of numbers in 0..1")  # NaN fails too
    if not numbers:
        return None
    if len(numbers) != 3 or numbers[1] > numbers[2]:
        raise _unusable(f"{key} is not a value with an interval")
    return dict(zip(("value", "low", "high"), numbers, strict=True))


def _defined(counts: NDArray[np.int64], name: str, label: str | None) -> float | None:
    """Compute a metric from a confusion [9]: NaN if undefined, None if it does not follow from the confusion."""
    if name not in CONFUSION_METRICS:
        return None
    found = CONFUSION_METRICS[name](counts.reshape(1, len(CLASSES), -1).astype(np.float64))
    return float(found[0] if label is None else found[0, CLASSES.index(label)])


def _check_figure(key: str, figure: dict[str, float] | None, expected: float | None) -> None:
    if figure is not None and expected is not None and not abs(figure["value"] - expected) <= 1e-9:
        raise _unusable(f"{key} is not that of its confusion")


def _check_counts(counts: NDArray[np.int64], scatter: NDArray[np.int64], images: int, groups: int) -> None:
    """Check that these sums are possible, for at least one division of the images into groups."""
    if images == 0 or images != counts.sum():
        raise _unusable(f"{IMAGES} is {images}, {CONFUSION} counts {counts.sum()}")
    if not 1 <= groups <= images:
        raise _unusable(f"{images} images can't be {groups} groups")
    if (scatter != scatter.T).any():
        raise _unusable(f"{SCATTER} is not symmetric")
    squares = np.diagonal(scatter)
    # Counts are integers, so x <= x^2 in each group; and a sum of products is at most the product of the sums.
    if (squares < counts).any() or (scatter > np.outer(counts, counts)).any():
        raise _unusable(f"{SCATTER} does not fit {CONFUSION}")
    # The sum of squared group sizes is largest if all groups but one have one image.
    largest = images - groups + 1
    if scatter.sum() > largest**2 + groups - 1:
        raise _unusable(f"{SCATTER} does not fit {groups} groups")
    # G times the covariance, which has no negative eigenvalues except by rounding.
    scaled = groups * scatter.astype(np.float64) - np.outer(counts, counts)
    if np.linalg.eigvalsh(scaled).min() < -1e-9 * max(1.0, float(np.trace(scaled))):
        raise _unusable(f"{SCATTER} is not possible with {groups} groups")


def _unusable(why: str) -> RunError:
    return RunError(f"A site's test scores can't be used ({why}).", "Run the same version of FedBUS everywhere.")
