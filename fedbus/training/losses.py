"""What training minimises: a loss chosen by the site's missing classes, and FedProx's proximal term."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.training.missing_classes.criterion import ClassRows, Criterion
from fedbus.training.missing_classes.registry import POLICIES

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def make_criterion(model: nn.Module, rows: ClassRows, settings: "Settings") -> Criterion:
    """Make the loss of one round at one site.

    A site that has all classes gets plain cross-entropy under every policy except `balanced`.

    Args:
        model: The model at the start of the round; `distil` keeps a copy.
        rows: Training rows of the site.
        settings: Settings of the comparison.
    """
    policy = POLICIES[settings.missing_classes]
    lacks_a_class = len(rows.present) < len(rows.class_weights)
    return (policy if lacks_a_class or policy.everywhere else Criterion)(model, rows, settings)


def add_proximal_gradient(parameters: list[nn.Parameter], anchors: list[Tensor], mu: float) -> None:
    """Add mu (w - w0) to the gradients, in place: the gradient of mu/2 ||w - w0||^2.

    The proximal term of FedProx (Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, equation
    2). Added to the gradients it costs no backward pass.

    Args:
        parameters: w; those without a gradient are left unchanged.
        anchors: w0, in the same order.
        mu: At least 0.
    """
    moved = [(p.grad, p, anchor) for p, anchor in zip(parameters, anchors, strict=True) if p.grad is not None]
    with torch.no_grad():
        # One kernel for all parameters: they are many and small.
        drift = torch._foreach_sub([p for _, p, _ in moved], [anchor for _, _, anchor in moved])
        torch._foreach_add_([gradient for gradient, _, _ in moved], drift, alpha=mu)
