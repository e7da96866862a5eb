"""One optimiser step on one batch, computed on the device of the images without waiting for it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.device import autocast, pick_dtype
from fedbus.models.inputs import normalise
from fedbus.training.augmentation import augment
from fedbus.training.losses import add_proximal_gradient
from fedbus.training.missing_classes.criterion import Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class TrainingStep:
    """The optimiser steps of one round.

    Attributes:
        total: float32 [], the sum of the losses so far, without the proximal term. On the device: reading a loss in
            every step would wait for it.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        criterion: Criterion,
        settings: "Settings",
        optimiser: torch.optim.Optimizer,
        proximal_mu: float,
    ) -> None:
        """Prepare the steps.

        Args:
            model: Model on the device of the images, channels_last, in training mode.
            images: uint8 [U, 1, H, W].
            criterion: The loss.
            settings: Settings of the comparison; the precision is used.
            optimiser: Optimiser of the model's parameters.
            proximal_mu: As in `fedbus.training.loop.train_round`.
        """
        self.total = torch.zeros((), device=images.device)
        self._model, self._images, self._criterion, self._optimiser = model, images, criterion, optimiser
        self._device, self._dtype = images.device, pick_dtype(settings.precision, images.device)
        self._mu = proximal_mu
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._anchors = [p.detach().clone() for p in self._parameters] if proximal_mu else []

    def __call__(self, index: Tensor, labels: Tensor, views: Tensor | None = None) -> None:
        """Take one step.

        Args:
            index: int64 [B], positions of the batch in the images.
            labels: int64 [B].
            views: float32 [B, 8], see `draw_views`; None: no augmentation.
        """
        batch = self._images.index_select(0, index).float() / 255
        if views is not None:
            batch = augment(batch, views)
        images = normalise(batch)
        with autocast(self._device, self._dtype):
            logits = self._model(images)
        loss = self._criterion(logits.float(), labels, images)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._anchors:
            add_proximal_gradient(self._parameters, self._anchors, self._mu)
        self._optimiser.step()
        self.total += loss.detach()
