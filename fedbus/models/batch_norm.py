"""BatchNorm in a federation: which arrays are its own, statistics that stand still, statistics of all sites together.

The policies (`batch-norm`): `average` treats BatchNorm as all other layers; `frozen` leaves the running statistics as
the start weights have them; `local` is FedBN (Li, Jiang, Zhang, Kamp and Dou 2021, algorithm 1): parameters and
statistics of BatchNorm never leave a site; `local-statistics` is SiloBN (Andreux, du Terrail, Beguier and Tramel 2020),
where the statistics alone stay; `pooled` counts the variance between the sites in.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fedbus.models.state import State

MEAN, VARIANCE = "running_mean", "running_var"
PARTS = ("weight", "bias", MEAN, VARIANCE)

OWN_PARTS = {"local": PARTS, "local-statistics": (MEAN, VARIANCE)}
"""What of BatchNorm never leaves a site, by policy."""

STILL_PARTS = OWN_PARTS | {"frozen": (MEAN, VARIANCE)}
"""What of BatchNorm stays in the shared model as the start weights have it, by policy."""


def freeze_batch_norm(model: nn.Module) -> None:
    """Let every BatchNorm normalise by its running statistics, and leave those unchanged."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def own_names(policy: str, names: Iterable[str]) -> list[str]:
    """Names of the arrays that never leave a site under a policy, among the names of a state."""
    return _names_of(OWN_PARTS.get(policy, ()), names)


def still_names(policy: str, names: Iterable[str]) -> list[str]:
    """Names of the arrays that no round changes in the shared model under a policy, among the names of a state."""
    return _names_of(STILL_PARTS.get(policy, ()), names)


def _names_of(parts: Iterable[str], names: Iterable[str]) -> list[str]:
    """BatchNorm is known by its running statistics, so no model needs to be built for it."""
    given = set(names)
    layers = [name.removesuffix(MEAN) for name in given if name.endswith(MEAN)]
    return sorted(f"{layer}{part}" for layer in layers for part in parts if f"{layer}{part}" in given)


def pool_statistics(updates: Sequence[State], weights: Sequence[float]) -> State:
    """Running statistics of all sites' activations together, from those that each site sends anyway.

    By the law of total variance, with p_k the sites' shares: mean = sum_k p_k mean_k, and
    variance = sum_k p_k (variance_k + (mean_k - mean)^2). The plain average of variances leaves the last term out, and
    so is too small where sites differ. Each site counts with the weights that it trained: that these are not the
    averaged ones (Wang, Shi and Chang 2023) stays as it is.

    Args:
        updates: what the sites sent back.
        weights: of the sites, above 0, in the same order.

    Returns:
        Means and variances by name, float32 [channels].
    """
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    pooled: State = {}
    for name in (name for name in updates[0] if name.endswith(MEAN)):
        variance_name = name.removesuffix(MEAN) + VARIANCE
        means = _stacked(updates, name)
        mean = shares @ means
        variance = shares @ (_stacked(updates, variance_name) + (means - mean).square())
        pooled |= {name: mean.float(), variance_name: variance.float()}
    return pooled


def _stacked(updates: Sequence[State], name: str) -> Tensor:
    return torch.stack([update[name].double() for update in updates])
