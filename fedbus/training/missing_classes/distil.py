"""Distillation of the incoming model for the classes that a site lacks (`missing-classes = "distil"`).

Learning without Forgetting (Li and Hoiem, ECCV 2016) preserves what a model knew by distilling its outputs for the old
classes on new images. FedNTD (Lee et al., "Preservation of the Global Knowledge by Not-True Distillation in Federated
Learning", NeurIPS 2022) distils the model that a round starts from, except for the true class. Here the distinction
between the site's own classes is excluded instead. The closest published method is the vacant-class distillation of
FedVLS (Guo et al., "Exploring Vacant Classes in Label-Skewed Federated Learning", 2024).
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.device import autocast, pick_dtype
from fedbus.training.missing_classes.criterion import ClassRows
from fedbus.training.missing_classes.mask import Mask

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class Distil(Mask):
    """Add s KL(incoming || current) to masked cross-entropy, s = `missing-strength`, at temperature 1.

    The divergence is between coarse distributions: one entry per missing class, and one for all of the site's own
    classes together. Rows are weighted by class as in the cross-entropy. The incoming model is a frozen copy in
    evaluation mode, so a model with BatchNorm, which trains on batch statistics, differs from it from the first step.

    Attributes:
        strength: s.
        missing: int64 [3 - K], the classes that the site lacks.
        dtype: Arithmetic of the incoming model's forward pass.
        incoming: The frozen copy; needs as much memory as the model's weights.
    """

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.strength = settings.missing_strength
        self.missing = (self.place < 0).nonzero().squeeze(1)
        self.dtype = pick_dtype(settings.precision, rows.class_weights.device)
        self.incoming = copy.deepcopy(model).eval().requires_grad_(False)

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """As `Mask`, plus s times the mean divergence from the incoming model on the same images."""
        with torch.no_grad(), autocast(images.device, self.dtype):
            incoming = self.incoming(images)
        before, now = self._coarse(incoming.float()), self._coarse(logits)
        divergence = (before.exp() * (before - now)).sum(dim=1)
        weights = self.weights[self.place[labels]]
        distance = (weights * divergence).sum() / weights.sum()
        return super().__call__(logits, labels, images) + self.strength * distance

    def _coarse(self, logits: Tensor) -> Tensor:
        """Log-probabilities of each missing class and of all others together, float32 [B, 3 - K + 1]."""
        log_probabilities = logits.log_softmax(dim=1)
        own = log_probabilities[:, self.columns].logsumexp(dim=1, keepdim=True)
        return torch.cat([log_probabilities[:, self.missing], own], dim=1)
