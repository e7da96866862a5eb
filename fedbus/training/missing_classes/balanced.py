"""Balanced softmax (`missing-classes = "balanced"`).

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, equation 4: the softmax of
z_c + log n_c, so that the logits learn what a class looks like and not how frequent it is at a site. FedLC applies the
same idea to label skew between federated sites, with other margins (Zhang et al., "Federated Learning with Label
Distribution Skew via Logits Calibration", ICML 2022).
"""

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedbus.training.missing_classes.criterion import ClassRows, Criterion

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


class Balanced(Criterion):
    """Add log(n_c + 1) to the logits, where n_c is the number of the site's rows of a class after balancing.

    The added 1 is not in the paper: it keeps a missing class in the softmax, with a prior of 1 / (N + 3). Label
    smoothing is spread over the site's own classes: with a share of the label for a missing class, its logit would have
    to outweigh that small prior, and would rise above all others.

    Attributes:
        prior: float32 [3], log(n_c + 1).
        targets: float32 [3, 3], the smoothed target of each label.
    """

    everywhere: ClassVar[bool] = True

    def __init__(self, model: nn.Module, rows: ClassRows, settings: "Settings") -> None:
        super().__init__(model, rows, settings)
        classes = len(rows.class_weights)
        self.prior = torch.bincount(rows.labels, minlength=classes).float().log1p()
        self.targets = (1 - self.smoothing) * torch.eye(classes, device=rows.labels.device)
        self.targets[:, rows.present] += self.smoothing / len(rows.present)

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """As `Criterion`, of the logits with the site's priors added."""
        targets = self.targets[labels]
        total = F.cross_entropy(logits + self.prior, targets, weight=self.weights, reduction="sum")
        # PyTorch would divide by the batch size where targets are probabilities; labels divide by their weights.
        return total / self.weights[labels].sum()
