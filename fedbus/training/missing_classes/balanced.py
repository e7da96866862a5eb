"""Balanced softmax (`missing-classes = "balanced"`).

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, equation 4: the softmax of
z_c + log n_c, so that the logits learn what a class looks like and not how often a holder sees it. Against label skew
between federated holders as FedLC does it, with other margins (Zhang et al., "Federated Learning with Label
Distribution Skew via Logits Calibration", ICML 2022).
"""

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedbus.training.losses import Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Balanced(Criterion):
    """Add log(n_c + 1) to the logits, n_c the rows of a class that the holder trains on (after balancing).

    The added 1 is not in the paper: it keeps a missing class in the softmax, with a prior of 1 / (N + 3). Label
    smoothing spreads over the holder's own classes: a share for a missing class would have to outweigh that prior, and
    so drive its logit above all others.

    Attributes:
        prior: float32 [3], log(n_c + 1).
        targets: float32 [3, 3], the smoothed target of each label.
    """

    everywhere: ClassVar[bool] = True

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        classes = len(rows.class_weights)
        self.prior = torch.bincount(rows.labels, minlength=classes).float().log1p()
        self.targets = (1 - self.smoothing) * torch.eye(classes, device=rows.labels.device)
        self.targets[:, rows.present] += self.smoothing / len(rows.present)

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """As for `Criterion`, of the logits with the holder's priors."""
        targets = self.targets[labels]
        total = F.cross_entropy(logits + self.prior, targets, weight=self.weights, reduction="sum")
        return total / self.weights[labels].sum()
