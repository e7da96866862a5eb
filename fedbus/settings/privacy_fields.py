"""The settings of secure aggregation and differential privacy: their types and descriptions."""

from typing import Annotated, Literal

from pydantic import Field

Mode = Annotated[
    Literal["none", "secure-aggregation"],
    Field(
        description="What the hub sees of a site's round: its update, counts and losses (none), or only their sums "
        "over at least three sites (secure-aggregation).",
    ),
]

UpdateRange = Annotated[
    float,
    Field(
        gt=0,
        le=1e6,
        description="With secure-aggregation, how far a round may change a value: this many times the largest value of "
        "its array in the model, and at least this much. A site whose update exceeds it refuses the round; a larger "
        "range makes the sums coarser.",
    ),
]

Epsilon = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        description="Differential privacy for patients: the largest epsilon of one training, for every patient of its "
        "training images; 1 is strong, 8 is common, 100 is nearly none. Needs a model without BatchNorm "
        "(resnetv2_50d_gn). 0: no differential privacy.",
    ),
]

Delta = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="The delta of dp-epsilon, the probability with which its bound may fail; below 1 / training "
        "patients at every site.",
    ),
]

Clip = Annotated[
    float,
    Field(
        gt=0,
        le=1000,
        description="With dp-epsilon, the largest norm of a patient's gradient, summed over the patient's images; a "
        "longer one is scaled down to it. The noise is proportional to it.",
    ),
]

Unit = Annotated[
    Literal["patient", "site"],
    Field(
        description="What dp-epsilon protects: every patient (patient). A whole site (site) is refused: it would need "
        "thousands of sites."
    ),
]
