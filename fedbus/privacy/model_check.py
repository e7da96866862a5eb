"""Which models can be trained with differential privacy."""

from typing import TYPE_CHECKING

from torch import nn

from fedbus.errors import SettingsError
from fedbus.models.batch_norm import MEAN, VARIANCE
from fedbus.models.build import build_without_values

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

RECOMMENDED = "resnetv2_50d_gn"


def check_private_model(settings: "Settings") -> None:
    """Check, if patients shall be protected, that the model normalises each image by itself, before data are read.

    Args:
        settings: Settings of the comparison.

    Raises:
        SettingsError: As `refuse_batch_norm`, or if timm does not know it.
    """
    if settings.dp_epsilon:
        refuse_batch_norm(build_without_values(settings.model), settings.model)


def refuse_batch_norm(model: nn.Module, name: str) -> None:
    """Check that a model normalises each image by itself.

    Args:
        model: The model.
        name: Its name.

    Raises:
        SettingsError: If it has BatchNorm.
    """
    layers = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    statistics = any(key.endswith((MEAN, VARIANCE)) for key, _ in model.named_buffers())  # EvoNorm's B0 has such, too
    if layers or statistics:
        raise SettingsError(
            f"dp-epsilon can't be kept with model={name}: its BatchNorm mixes the images of a batch, and stores their "
            "means without noise.",
            f"Use a model without BatchNorm, for example --set model={RECOMMENDED}.",
        )
