"""Scores on validation rows during training: confusion matrix and loss, which add up over sites."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.evaluation.evaluate import confusion_metrics
from fedbus.evaluation.metrics import confusion_matrix
from fedbus.evaluation.predict import predict
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site

LEAST_PROBABILITY = 1e-12
"""Bound on the probability of the truth: a single confident error must not make the loss infinite."""


@dataclass(frozen=True)
class Score:
    """Counts and a sum, so that the scores of several sites add up to the score of their pooled rows.

    Attributes:
        confusion: int64 [3, 3], truth in rows, prediction in columns.
        loss_sum: Negative log-likelihood (natural logarithm) summed over the images.
    """

    confusion: NDArray[np.int64]
    loss_sum: float

    def __add__(self, other: "Score") -> "Score":
        return Score(self.confusion + other.confusion, self.loss_sum + other.loss_sum)

    def summary(self) -> dict[str, Any]:
        """Summarise the score as a history records it.

        Returns:
            "images", "loss" (the mean over images), "accuracy", "macro_f1" and "recall" by class.

        Raises:
            RunError: If no image was counted.
        """
        metrics, images = confusion_metrics(self.confusion), int(self.confusion.sum())
        return {"images": images, "loss": self.loss_sum / images, **metrics}

    @property
    def rank(self) -> tuple[float, float]:
        """Key by which the best round is chosen, higher is better: macro F1, then the negative mean loss.

        Macro F1 takes few values on a small validation set, so rounds often tie; the loss then decides.
        """
        summary = self.summary()
        return (float(summary["macro_f1"]), -float(summary["loss"]))


def score_probabilities(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Score:
    """Score predicted probabilities, float64 [N, 3], against labels, int64 [N]."""
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1))
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1.0)
    return Score(confusion, float(-np.log(likelihood).sum()))


def score_split(model: nn.Module, site: Site, split: str, settings: Settings, present: Tensor | None = None) -> Score:
    """Score a model on one split of a site; the arguments are those of `predict_split`."""
    rows = site.splits[split]
    return score_probabilities(site.labels[rows], predict(model, site.pixels[rows], settings, present))


def total(scores: Iterable[Score]) -> Score:
    """Add scores, giving the score of all rows together."""
    result = Score(np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64), 0.0)
    for score in scores:
        result = result + score
    return result


def record(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Make the entries of a history line: "validation", the summary of all rows, and "sites", one summary per site."""
    return {
        "validation": total(scores.values()).summary(),
        "sites": {name: score.summary() for name, score in scores.items()},
    }
