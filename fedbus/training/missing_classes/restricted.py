"""Restricted softmax (`missing-classes = "restricted"`).

Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution Non-IID Data", KDD 2021: the
softmax of alpha_c z_c, where alpha_c is 1 for a class that the holder has and alpha = `missing-strength` for one that
it lacks.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.training.losses import Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Restricted(Criterion):
    """Scale the logits of missing classes by alpha in [0, 1], and so the gradients that they get.

    At 1 it is `plain`. At 0 a missing class gets no gradient, but it is not `mask`: a logit of 0 stays in the softmax.
    The scale acts on the whole logit with its bias; the paper's classifier has none. Label smoothing, which the paper
    does not use, spreads over all classes as under `plain`.
    """

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        self.scale = torch.full_like(rows.class_weights, settings.missing_strength)
        self.scale[rows.present] = 1.0

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """As for `Criterion`, of the scaled logits."""
        return super().__call__(logits * self.scale, labels, pictures)
