"""The optimiser, its learning rate, and its state as named tensors."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def _plain_step(kind: type[torch.optim.Optimizer]) -> Any:
    """Return an optimiser's step without PyTorch's wrapper, which imports its compiler to end a compiled graph there.

    Besides that, the wrapper switches gradients off, as `no_grad` does: the optimisers are not differentiable here.
    """
    return torch.no_grad()(inspect.unwrap(kind.step))


class _AdamW(torch.optim.AdamW):
    """AdamW that imports no compiler."""

    step = _plain_step(torch.optim.AdamW)


class _SGD(torch.optim.SGD):
    """SGD that imports no compiler."""

    step = _plain_step(torch.optim.SGD)


def make_optimiser(model: nn.Module, settings: "Settings") -> torch.optim.Optimizer:
    """Make AdamW (Loshchilov and Hutter, ICLR 2019), or SGD with Nesterov momentum 0.9.

    Biases and the parameters of normalisation layers, all of one dimension, have no weight decay.
    """
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimiser == "adamw":
        return _AdamW(groups, lr=settings.learning_rate, fused=True)
    return _SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)


def learning_rate(settings: "Settings", progress: float) -> float:
    """Learning rate after a share `progress` in [0, 1] of all steps: linear warm-up, then constant or cosine to 0."""
    if progress < settings.warmup:
        return settings.learning_rate * (progress + 0.01) / (settings.warmup + 0.01)  # 0.01: the first step is not 0
    if settings.schedule == "constant":
        return settings.learning_rate
    rest = (progress - settings.warmup) / (1 - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + float(np.cos(np.pi * rest)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float | Tensor) -> None:
    """Set the learning rate of all parameter groups: a number, or a tensor that is changed in place later."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten the state of an optimiser to tensors on the CPU, named `PARAMETER/KEY`; empty before its first step."""
    return {
        f"{index}/{key}": value.detach().cpu().contiguous()
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimiser_tensors` returned.

    The fused optimisers traverse a parameter and its momenta in memory order, so a momentum needs the memory format of
    its parameter (channels_last). Files store tensors contiguously, so each momentum is copied into that format.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    if state:
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
