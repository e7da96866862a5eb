"""The score of a model as numbers that are added up over sites (secure aggregation). Importable without pydantic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.validation import Score
from fedbus.secure_aggregation.numbers import NumberFormat

Numbers = Mapping[str, ArrayLike]
"""A number or an array by key: of one site, or their sums."""

LOSS_BITS = 24
"""Binary places of a loss: sums of up to 600 000 images of one site, in steps of 6e-8."""

CONFUSION, LOSS_SUMS, CLASS_LOSS = "confusion", "loss-sums", "class-loss"

SCORE = (
    NumberFormat(CONFUSION, len(CLASSES) ** 2, 0),
    NumberFormat(LOSS_SUMS, len(CLASSES), LOSS_BITS),
    NumberFormat(CLASS_LOSS, 1, LOSS_BITS),
)
"""The last is the site's own mean over classes: the sum of it is all that the choice of the best round needs."""


@dataclass(frozen=True)
class TotalScore:
    """The sum of several sites' scores.

    Attributes:
        score: The score of all their rows together.
        loss: The mean of the sites' `class_loss`, as `fedbus.evaluation.validation.selection_loss`.
        sites: The sites whose scores were added, sorted.
    """

    score: Score
    loss: float
    sites: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Make the entries of a history line, as `fedbus.evaluation.validation.record`, with no figures of a site."""
        return {"validation": self.score.summary(), "sites": {}}


def numbers_of_score(score: Score) -> dict[str, ArrayLike]:
    """Return what a site adds about the score of a model."""
    return {CONFUSION: score.confusion, LOSS_SUMS: score.loss_sums, CLASS_LOSS: score.class_loss}


def read_score(total: Mapping[str, NDArray[Any]], sites: Sequence[str], rows: ArrayLike) -> TotalScore:
    """Read the sum of several sites' scores.

    Args:
        total: The decoded sums.
        sites: The sites whose numbers were added.
        rows: How many images of each class these sites have registered for the scored split, together.

    Raises:
        RunError: If the sums can't be those of this many images. Which site's numbers are wrong can't be known.
    """
    confusion = total[CONFUSION].reshape(len(CLASSES), -1)
    losses, loss = total[LOSS_SUMS], float(total[CLASS_LOSS][0]) / len(sites)
    if (confusion < 0).any() or (confusion.sum(axis=1) != np.asarray(rows)).any():
        raise impossible_sum(
            f"The sum of the scores of {', '.join(sites)} counts {confusion.sum(axis=1).tolist()} images of each class,"
            f" not the registered {np.asarray(rows).tolist()}"
        )
    if min(loss, *losses) < 0:
        raise impossible_sum(f"The sum of the losses of {', '.join(sites)} is negative")
    return TotalScore(Score(confusion, losses), loss, tuple(sorted(sites)))


def impossible_sum(problem: str) -> RunError:
    """Return the error for sums that no honest sites can have made together."""
    return RunError(
        f"{problem}; a sum does not show which site is wrong.",
        "Install the same version of FedBUS at every site, then rerun with --resume.",
    )
