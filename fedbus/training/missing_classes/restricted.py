"""Restricted softmax (`missing-classes = "restricted"`).

Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution Non-IID Data", KDD 2021: the
softmax of alpha_c z_c, where alpha_c is 1 for a class that the site has and `missing-strength` for one that it lacks.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.training.missing_classes.criterion import ClassRows, Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class Restricted(Criterion):
    """Scale the logits of missing classes by alpha in [0, 1], and thereby their gradients.

    At 1 this is `plain`. At 0 a missing class gets no gradient, but this is not `mask`: a logit of 0 remains in the
    softmax. The scale applies to the whole logit including its bias; the paper's classifier has no bias. Label
    smoothing, which the paper does not use, is spread over all classes as in `plain`.

    Attributes:
        scale: float32 [3], alpha_c.
    """

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.scale = torch.full_like(rows.class_weights, settings.missing_strength)
        self.scale[rows.present] = 1.0

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """As `Criterion`, of the scaled logits."""
        return super().__call__(logits * self.scale, labels, images)
