"""A site's reply to an instruction, besides weights: a plain mapping of numbers, checked by the hub."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fedbus.classes import CLASSES
from fedbus.evaluation.binned_counts import BinnedCounts
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.site_calibration import (
    MALIGNANT_BINS,
    OTHER_BINS,
    TEST_MALIGNANT_BINS,
    SiteCalibration,
    read_bins,
)
from fedbus.evaluation.site_scores import SiteScores
from fedbus.evaluation.validation import Score
from fedbus.transport.read_values import LIKELIHOOD_SUMS, not_valid, read_likelihoods

WEIGHT = "num-examples"
"""The metric that Flower's strategies weight a site by."""

EPSILON = "epsilon"
"""The metric with the epsilon that a site has spent in a training."""

BATCH_NORM_OF = {"shared": 0, "own": 1, "adapted": 2}
"""Whose BatchNorm a given model was tested with: its own, the site's from the training, or one adapted to the site."""

BATCH_NORM_KEY = "test-batch-norm"

_NAME_OF = {number: name for name, number in BATCH_NORM_OF.items()}


@dataclass(frozen=True)
class Report:
    """What a site replies to an instruction, besides weights.

    Attributes:
        weight: The weight of the site in the aggregation.
        score: The score of the received model on the requested split.
        loss: The mean training loss; 0 for an evaluation.
        steps: The number of optimiser steps; 0 for an evaluation.
        seconds: How long the site took.
        test: A deployed site's metrics of the best model on its test rows; None in all other replies.
        batch_norm: Whose BatchNorm a given model was tested with, a key of `BATCH_NORM_OF`; None in all other replies.
        calibrated: What it reports of the calibrated model on them; None without calibration.
        likelihoods: The negative log-likelihood of validation rows at each temperature of `GRID`, if it was collected.
        epsilon: The epsilon that the site has spent in this training; None without differential privacy.
        bins: The validation rows by calibrated probability of malignant, if they were collected.
    """

    weight: float
    score: Score
    loss: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    test: SiteScores | None = None
    batch_norm: str | None = None
    calibrated: SiteCalibration | None = None
    likelihoods: FloatArray | None = None
    bins: BinnedCounts | None = None
    epsilon: float | None = None

    def to_metrics(self) -> dict[str, Any]:
        """Return the report as a metric record."""
        return {
            WEIGHT: self.weight,
            "confusion": [int(count) for count in self.score.confusion.ravel()],
            "loss-sums": self.score.loss_sums.tolist(),
            "train-loss": self.loss,
            "steps": self.steps,
            "seconds": self.seconds,
            **({EPSILON: self.epsilon} if self.epsilon is not None else {}),
            **(self.test.to_metrics() if self.test else {}),
            **({BATCH_NORM_KEY: BATCH_NORM_OF[self.batch_norm]} if self.batch_norm else {}),
            **(self.calibrated.to_metrics() if self.calibrated else {}),
            **({LIKELIHOOD_SUMS: self.likelihoods.tolist()} if self.likelihoods is not None else {}),
            **({MALIGNANT_BINS: list(self.bins.malignant), OTHER_BINS: list(self.bins.others)} if self.bins else {}),
        }

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Self:
        """Read and check a report at the server.

        Raises:
            RunError: If a key is missing, a number is not finite or negative, or no image was scored.
        """
        try:
            confusion = np.array(metrics["confusion"], dtype=np.int64).reshape(len(CLASSES), len(CLASSES))
            loss_sums = np.array(metrics["loss-sums"], dtype=np.float64).reshape(len(CLASSES))
            report = cls(
                weight=float(metrics[WEIGHT]),
                score=Score(confusion, loss_sums),
                loss=float(metrics["train-loss"]),
                steps=int(metrics["steps"]),
                seconds=float(metrics["seconds"]),
                test=SiteScores.from_metrics(metrics) if "test-images" in metrics else None,
                batch_norm=_NAME_OF[metrics[BATCH_NORM_KEY]] if BATCH_NORM_KEY in metrics else None,
                calibrated=SiteCalibration.from_metrics(metrics) if TEST_MALIGNANT_BINS in metrics else None,
                likelihoods=read_likelihoods(metrics, confusion) if LIKELIHOOD_SUMS in metrics else None,
                bins=read_bins(metrics, MALIGNANT_BINS, OTHER_BINS) if MALIGNANT_BINS in metrics else None,
                epsilon=float(metrics[EPSILON]) if EPSILON in metrics else None,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise not_valid("A site's report", error) from error
        numbers = (report.weight, *loss_sums.tolist(), report.loss, report.seconds, report.steps, report.epsilon or 0)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or confusion.min() < 0 or report.weight == 0:
            raise not_valid("A site's report", "a number is negative, zero or not finite")
        if not confusion.any():
            raise not_valid("A site's report", "it scored no image")
        return report
