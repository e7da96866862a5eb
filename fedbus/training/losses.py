"""What training minimises: cross-entropy over all classes, and FedProx's proximal term.

What a holder's loss does with the classes that it lacks is a policy: `fedbus.training.missing_classes.registry`.
"""

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings
    from fedbus.training.rows import TrainingRows


class Criterion:
    """Cross-entropy with label smoothing and class weights over all classes.

    It is the policy `plain`, and every policy derives from it. A holder without images of a class drives that class
    out of the shared model: each of its rows says that the class is not there.

    Attributes:
        everywhere: whether the policy also applies to a holder that has all classes.
    """

    everywhere: ClassVar[bool] = False

    def __init__(self, model: nn.Module, rows: "TrainingRows", settings: "Settings") -> None:
        """Prepare one round of one holder; the model is as the round found it."""
        self.weights = rows.class_weights
        self.smoothing = settings.label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        """The mean over a batch, weighted by class.

        Args:
            logits: float32 [B, 3].
            labels: int64 [B].
            pictures: float32 [B, 3, H, W], what the model made the logits from.

        Returns:
            float32 [].
        """
        return F.cross_entropy(logits, labels, weight=self.weights, label_smoothing=self.smoothing)


def add_proximal_gradient(parameters: list[nn.Parameter], anchors: list[Tensor], mu: float) -> None:
    """Add mu (w - w0) to the gradients, in place: those of mu/2 ||w - w0||^2 (FedProx, Li et al. 2020, equation 2).

    Args:
        parameters: w; those without a gradient are left alone.
        anchors: w0, in the same order.
        mu: at least 0.
    """
    moved = [(p.grad, p, anchor) for p, anchor in zip(parameters, anchors, strict=True) if p.grad is not None]
    with torch.no_grad():
        drift = torch._foreach_sub([p for _, p, _ in moved], [anchor for _, _, anchor in moved])
        torch._foreach_add_([gradient for gradient, _, _ in moved], drift, alpha=mu)
