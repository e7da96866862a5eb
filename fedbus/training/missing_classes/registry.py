"""The policies by name, and which classes a model may predict under them."""

from typing import TYPE_CHECKING, TypeVar

from fedbus.training.missing_classes.balanced import Balanced
from fedbus.training.missing_classes.criterion import Criterion
from fedbus.training.missing_classes.distil import Distil
from fedbus.training.missing_classes.mask import Mask
from fedbus.training.missing_classes.restricted import Restricted
from fedbus.training.missing_classes.softened import Softened

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

POLICIES: dict[str, type[Criterion]] = {
    "mask": Mask,
    "plain": Criterion,
    "restricted": Restricted,
    "softened": Softened,
    "balanced": Balanced,
    "distil": Distil,
}
"""By the values of the setting `missing-classes`."""

Classes = TypeVar("Classes")


def predictable(trained: Classes, settings: "Settings") -> Classes | None:
    """Give the classes that a model may predict: those that at least one site trained it on.

    A class that no site has was never learned, so it gets probability 0. Under `plain` no class is excluded, because
    its loss itself teaches the model not to predict such a class.

    Args:
        trained: Classes that at least one site has, as any type.
        settings: Settings of the comparison.

    Returns:
        `trained`, or None for all classes.
    """
    return None if settings.missing_classes == "plain" else trained
