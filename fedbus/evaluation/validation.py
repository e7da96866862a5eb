"""Scores on validation rows during training: confusion matrix and loss, which add up over sites."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.evaluation.evaluate import confusion_metrics
from fedbus.evaluation.metrics import LEAST_PROBABILITY, confusion_matrix
from fedbus.evaluation.predict import predict

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack
    from fedbus.sites.site import Site


@dataclass(frozen=True)
class Score:
    """Counts and a sum, so that the scores of several sites add up to the score of their pooled rows.

    Attributes:
        confusion: int64 [3, 3], truth in rows, prediction in columns.
        loss_sums: float64 [3], negative log-likelihood (natural logarithm) summed over the images of each class.
    """

    confusion: NDArray[np.int64]
    loss_sums: NDArray[np.float64]

    def __add__(self, other: "Score") -> "Score":
        return Score(self.confusion + other.confusion, self.loss_sums + other.loss_sums)

    def summary(self) -> dict[str, Any]:
        """Summarise the score as a history records it.

        Returns:
            "images", "loss" (the mean over images), "class_loss" (see that property), "accuracy", "macro_f1" and
            "recall" by class.

        Raises:
            RunError: If no image was counted.
        """
        metrics, images = confusion_metrics(self.confusion), int(self.confusion.sum())
        return {
            "images": images,
            "loss": float(self.loss_sums.sum()) / images,
            "class_loss": self.class_loss,
            **metrics,
        }

    @property
    def class_loss(self) -> float:
        """The mean over the classes that have images of each class's mean loss."""
        counts = self.confusion.sum(axis=1)
        return float(np.mean(self.loss_sums[counts > 0] / counts[counts > 0]))


def score_probabilities(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Score:
    """Score predicted probabilities, float64 [N, 3], against labels, int64 [N]."""
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1))
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1.0)
    loss_sums = np.bincount(labels, -np.log(likelihood), minlength=len(CLASSES))
    return Score(confusion, loss_sums.astype(np.float64))


def score_split(
    model: nn.Module, site: "Site", split: str, settings: "Settings", present: Tensor | None = None
) -> Score:
    """Score a model on one split of a site; the arguments are those of `predict_split`."""
    rows = site.splits[split]
    return score_probabilities(site.labels[rows], predict(model, site.pixels[rows], settings, present))


def total(scores: Iterable[Score]) -> Score:
    """Add scores, giving the score of all rows together."""
    result = Score(np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64), np.zeros(len(CLASSES)))
    for score in scores:
        result = result + score
    return result


def selection_loss(scores: Iterable[Score]) -> float:
    """Return the loss by which the best round is chosen, lower is better: averaged over classes, then over sites.

    So no site and no class counts less for having few images. Macro F1 takes few values on a small validation set: the
    round with the highest is often a lucky one.
    """
    return float(np.mean([score.class_loss for score in scores]))


def record(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Make the entries of a history line: "validation", the summary of all rows, and "sites", one summary per site."""
    return {
        "validation": total(scores.values()).summary(),
        "sites": {name: score.summary() for name, score in scores.items()},
    }
