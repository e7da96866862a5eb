"""How good a model is while it is trained: confusion and loss on validation rows, which add up over sites."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.evaluation.evaluate import confusion_metrics
from fedbus.evaluation.predict import predict
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site


@dataclass(frozen=True)
class Score:
    """Counts and a sum, so that scores of several sites add up to the score of their pooled rows.

    Attributes:
        confusion: int64 [3, 3], truth in rows, argmax of the model in columns.
        loss_sum: negative log-likelihood summed over the images, natural logarithm.
    """

    confusion: NDArray[np.int64]
    loss_sum: float

    def __add__(self, other: "Score") -> "Score":
        return Score(self.confusion + other.confusion, self.loss_sum + other.loss_sum)

    def summary(self) -> dict[str, Any]:
        """Loss (mean), accuracy, macro F1 and recall a class, as the history keeps them.

        Raises:
            RunError: no image was counted.
        """
        metrics, images = confusion_metrics(self.confusion), int(self.confusion.sum())
        return {"images": images, "loss": self.loss_sum / images, **metrics}

    @property
    def rank(self) -> tuple[float, float]:
        """What the kept round is chosen by, higher is better: macro F1, then lower loss."""
        summary = self.summary()
        return (float(summary["macro_f1"]), -float(summary["loss"]))


def score_probabilities(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Score:
    """Score predictions; labels int64 [N], probabilities float64 [N, 3]."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    return Score(confusion, float(-np.log(likelihood).sum()))


def score_split(model: nn.Module, site: Site, split: str, settings: Settings, present: Tensor | None = None) -> Score:
    """Score a model on one part of one site."""
    rows = site.splits[split]
    return score_probabilities(site.labels[rows], predict(model, site.pixels[rows], settings, present))


def total(scores: Iterable[Score]) -> Score:
    """The score of all rows together."""
    result = Score(np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64), 0.0)
    for score in scores:
        result = result + score
    return result


def record(scores: Mapping[str, Score]) -> dict[str, Any]:
    """What a history line says of the validation rows: pooled, and site by site."""
    return {
        "validation": total(scores.values()).summary(),
        "sites": {name: score.summary() for name, score in scores.items()},
    }
