"""What was fitted to a model's validation images after training: temperature, and threshold for malignant.

A model folder contains it as JSON. Probabilities that a person reads are calibrated with it; the figures of a
comparison are those of the model as it was trained.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fedbus.errors import SettingsError
from fedbus.evaluation.binned_counts import MALIGNANT, BinnedCounts, add_counts, count_bins
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.temperature import GRID, fit_temperature, likelihood_sums, scale
from fedbus.evaluation.threshold import choose_threshold
from fedbus.settings.threshold_rule import parse_rule


class Calibration(BaseModel):
    """The calibration of one trained model (one seed).

    Attributes:
        temperature: Divides the logits.
        rows: How many validation images it was fitted to.
        rule: By what the threshold was chosen: `sensitivity=0.95`, `specificity=0.9` or `youden`.
        threshold: An image is above it if its calibrated probability of malignant is at least this. None if the
            validation images did not allow a choice.
        reason: Why there is no threshold; empty if there is one.
        counts: The validation images by calibrated probability of malignant, so that another rule can be applied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(ge=GRID[0], le=GRID[-1])
    rows: int = Field(ge=1)
    rule: str
    threshold: float | None = Field(ge=0, lt=1)  # it is one of EDGES
    reason: str = ""
    counts: BinnedCounts

    @field_validator("rule")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        parse_rule(value)
        return value

    @classmethod
    def from_counts(cls, temperature: float, counts: BinnedCounts, rule: str) -> Self:
        """Choose the threshold by a rule; with too few images there is none, with the reason."""
        try:
            threshold, reason = choose_threshold(counts, rule), ""
        except SettingsError as error:
            threshold, reason = None, error.problem
        return cls(
            temperature=temperature, rows=counts.rows, rule=rule, threshold=threshold, reason=reason, counts=counts
        )

    def with_rule(self, rule: str) -> Self:
        """Return the same calibration with the threshold of another rule.

        Raises:
            SettingsError: If the validation images are too few for it, or no threshold reaches its target.
            ValueError: If the rule is none.
        """
        threshold = choose_threshold(self.counts, rule)
        return self.model_copy(update={"rule": rule, "threshold": threshold, "reason": ""})

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """Calibrate probabilities, float64 [N, 3]."""
        return scale(probabilities, self.temperature)


def calibrate(sites: Sequence[Predictions], rule: str) -> Calibration:
    """Calibrate a model on the validation images of its sites.

    Args:
        sites: Predictions on each site's validation rows, at least one.
        rule: The threshold's rule.
    """
    temperature = fit_temperature([likelihood_sums(each.labels, each.probabilities) for each in sites])
    counts = [count_bins(each.labels, scale(each.probabilities, temperature)[:, MALIGNANT]) for each in sites]
    return Calibration.from_counts(temperature, add_counts(counts), rule)
