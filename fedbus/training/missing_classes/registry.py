"""What a holder's loss does with the classes that it has no training rows of: one file a method.

Cross-entropy over all classes lets a hospital without normals drive that class out of the shared model. A policy acts
only where a class is missing (`balanced` everywhere); elsewhere all are the same plain cross-entropy.
"""

from typing import TYPE_CHECKING, TypeVar

from torch import nn

from fedbus.training.losses import Criterion
from fedbus.training.missing_classes.balanced import Balanced
from fedbus.training.missing_classes.distil import Distil
from fedbus.training.missing_classes.mask import Mask
from fedbus.training.missing_classes.restricted import Restricted
from fedbus.training.missing_classes.softened import Softened

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows

POLICIES: dict[str, type[Criterion]] = {
    "mask": Mask,
    "plain": Criterion,
    "restricted": Restricted,
    "softened": Softened,
    "balanced": Balanced,
    "distil": Distil,
}
"""By the names of `Settings.missing_classes`."""

Classes = TypeVar("Classes")


def make_criterion(model: nn.Module, rows: "TrainingRows", settings: "Settings") -> Criterion:
    """Make the loss of one round of one holder.

    Args:
        model: as the round found it, not trained yet; `distil` keeps a copy.
        rows: the holder's.
        settings: the settings.
    """
    policy = POLICIES[settings.missing_classes]
    lacks_a_class = len(rows.present) < len(rows.class_weights)
    return (policy if lacks_a_class or policy.everywhere else Criterion)(model, rows, settings)


def predictable(trained: Classes, settings: "Settings") -> Classes | None:
    """Name the classes that a model may predict: those that somebody trained it on.

    Nobody has judged a class that all holders of a model lack, so it gets probability 0. Only under `plain` do the
    losses themselves push such a class down.

    Args:
        trained: the classes that at least one holder has, in any form.
        settings: the settings.

    Returns:
        `trained`, or None for all classes.
    """
    return None if settings.missing_classes == "plain" else trained
