"""Distillation of the incoming model for the classes that a holder lacks (`missing-classes = "distil"`).

Learning without forgetting (Li and Hoiem, ECCV 2016) keeps what a model knew by distilling its outputs for the old
classes on the new pictures; FedNTD (Lee et al., "Preservation of the Global Knowledge by Not-True Distillation in
Federated Learning", NeurIPS 2022) does so against the model that a round brings, leaving out the true class. Here what
is left out is how the holder's own classes differ. Nearest published: the vacant-class distillation of FedVLS (Guo et
al., "Exploring Vacant Classes in Label-Skewed Federated Learning", 2024).
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.device import autocast, pick_dtype
from fedbus.training.missing_classes.mask import Mask

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Distil(Mask):
    """Add s KL(incoming || now) to masked cross-entropy, s = `missing-strength`, at temperature 1.

    The divergence is that of a coarse distribution: each missing class as it is, all of the holder's own classes as one
    entry. A row's divergence has the weight of its class, as its cross-entropy has. The incoming model is a frozen copy
    in evaluation mode. One that trains with BatchNorm's batch statistics differs from it from the first step on.

    Attributes:
        missing: int64 [3 - K].
        incoming: the frozen copy; holds as much memory as the model's weights.
    """

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.strength = settings.missing_strength
        self.missing = (self.place < 0).nonzero().squeeze(1)
        self.dtype = pick_dtype(settings.precision, rows.class_weights.device)
        self.incoming = copy.deepcopy(model).eval().requires_grad_(False)

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """As for `Mask`, and s times the mean divergence from the incoming model on the same pictures."""
        with torch.no_grad(), autocast(pictures.device, self.dtype):
            incoming = self.incoming(pictures)
        before, now = self._coarse(incoming.float()), self._coarse(logits)
        divergence = (before.exp() * (before - now)).sum(dim=1)
        weights = self.weights[self.place[labels]]
        distance = (weights * divergence).sum() / weights.sum()
        return super().__call__(logits, labels, pictures) + self.strength * distance

    def _coarse(self, logits: Tensor) -> Tensor:
        """Log-probabilities of each missing class and of all others together, float32 [B, 3 - K + 1]."""
        fine = logits.log_softmax(dim=1)
        own = fine[:, self.columns].logsumexp(dim=1, keepdim=True)
        return torch.cat([fine[:, self.missing], own], dim=1)
