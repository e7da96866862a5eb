"""Which patients a site's training rows are made of, and how often a step draws each of them.

Over-sampling repeats the images of rare classes. A clipped gradient would undo that: it has the same length however
often an image is repeated. So a patient is drawn more often instead. With the class factors f_c = rows of the class
after balancing / its images, and B images per step out of M balanced rows, the rate of a patient is
q = max f_c B / M, over the classes of the patient's images, and an image has the weight f_c / max f_c within its
patient. An image then counts f_c B / M times per step on average, as in ordinary training.

The factors are a site's registered counts, which are public, so that no patient changes what another contributes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbus.classes import CLASSES
from fedbus.errors import FedbusError
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class PrivacyError(FedbusError):
    """A training that differential privacy does not allow. Its problem names counts and settings, and may be sent."""


@dataclass(frozen=True)
class Patient:
    """One patient of a site: all images of a group among its training images.

    Attributes:
        index: int64 [k], positions in the images of the rows.
        places: int64 [k], positions among the site's distinct training images.
        labels: int64 [k].
        weights: float32 [k], above 0 and at most 1.
        rate: The probability with which a step draws the patient.
    """

    index: Tensor
    places: Tensor
    labels: Tensor
    weights: Tensor
    rate: float


def list_patients(rows: TrainingRows, settings: "Settings") -> list[Patient]:
    """List the patients of balanced training rows, in a fixed order.

    Args:
        rows: Training rows whose groups are known.
        settings: Settings of the comparison.

    Raises:
        PrivacyError: As `largest_rate`.
    """
    if rows.groups is None:
        raise PrivacyError(f"{rows.owner}: it is not known which image is whose.", "Use --set sampler=ros.")
    largest_rate(rows, settings)
    index, groups, chosen = rows.index.cpu(), rows.groups, _distinct(rows)
    labels, factors = rows.labels.cpu()[chosen], class_factors(rows)
    images, device = index[chosen], rows.images.device
    patients = []
    for group in range(int(groups.max()) + 1):
        own = (groups[chosen] == group).nonzero().squeeze(1)
        factor = factors[labels[own]]
        patients.append(
            Patient(
                images[own].to(device), own.to(device), labels[own].to(device),
                (factor / factor.max()).float().to(device),
                float(factor.max()) * rows.batch_size(settings) / len(index),
            )
        )  # fmt: skip
    return patients


def class_factors(rows: TrainingRows) -> Tensor:
    """Return balanced rows per image of each class, float64 [3]; 0 for a missing class."""
    labels = rows.labels.cpu()
    balanced, images = (torch.bincount(each, minlength=len(CLASSES)) for each in (labels, labels[_distinct(rows)]))
    return balanced.double() / images.clamp(min=1)


def _distinct(rows: TrainingRows) -> Tensor:
    """Choose one balanced row of each image, int64 [U], in the order of the images."""
    index, order = torch.sort(rows.index.cpu(), stable=True)
    return order[torch.cat([index.new_ones(1, dtype=torch.bool), index[1:] != index[:-1]])]


def largest_rate(rows: TrainingRows, settings: "Settings") -> float:
    """Return the highest rate at which a patient can be drawn; it follows from registered counts and settings.

    Raises:
        PrivacyError: If a batch is larger than the site, or the site has a single patient.
    """
    factor, batch = float(class_factors(rows).max()), rows.batch_size(settings)
    if rows.groups is not None and int(rows.groups.max()) == 0:
        raise PrivacyError(
            f"{rows.owner} has a single training patient, who is all that its counts are about, whatever the noise.",
            "Leave the site out, or use --set dp-epsilon=0.",
        )
    if factor * batch > len(rows.index):
        raise PrivacyError(
            f"batch-size = {batch} is too large for {rows.owner} with dp-epsilon: of its {len(rows.index)} balanced "
            "rows, it would draw a patient more than once in a step.",
            f"Use --set batch-size={max(1, int(len(rows.index) / factor))} or less.",
        )
    return factor * batch / len(rows.index)
