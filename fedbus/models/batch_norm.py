"""BatchNorm in a federation: which of its arrays stay at a site, which never change, and how statistics are pooled.

The policies (setting `batch-norm`):

- `average` treats BatchNorm like every other layer.
- `frozen` keeps the running statistics of the start weights.
- `local` is FedBN (Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021,
  algorithm 1): parameters and statistics of BatchNorm never leave a site.
- `local-statistics` is SiloBN (Andreux et al., "Siloed Federated Learning for Multi-Centric Histopathology Datasets",
  2020): only the statistics never leave a site.
- `pooled` gives the shared model the statistics of all sites' activations together.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fedbus.models.state import State

MEAN, VARIANCE = "running_mean", "running_var"
PARTS = ("weight", "bias", MEAN, VARIANCE)

OWN_PARTS = {"local": PARTS, "local-statistics": (MEAN, VARIANCE)}
"""Parts of BatchNorm that never leave a site, by policy."""

STILL_PARTS = OWN_PARTS | {"frozen": (MEAN, VARIANCE)}
"""Parts of BatchNorm that the shared model keeps from the start weights, by policy."""


def freeze_batch_norm(model: nn.Module) -> None:
    """Make every BatchNorm normalise by its running statistics and leave them unchanged; its parameters still train."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def own_names(policy: str, names: Iterable[str]) -> list[str]:
    """Select the arrays that never leave a site under a policy, from the names of a state."""
    return _batch_norm_names(OWN_PARTS.get(policy, ()), names)


def still_names(policy: str, names: Iterable[str]) -> list[str]:
    """Select the arrays of the shared model that no round changes under a policy, from the names of a state."""
    return _batch_norm_names(STILL_PARTS.get(policy, ()), names)


def _batch_norm_names(parts: Iterable[str], names: Iterable[str]) -> list[str]:
    """Recognise BatchNorm layers by their running statistics, so that no model has to be built."""
    given = set(names)
    layers = [name.removesuffix(MEAN) for name in given if name.endswith(MEAN)]
    return sorted(f"{layer}{part}" for layer in layers for part in parts if f"{layer}{part}" in given)


def pool_statistics(updates: Sequence[State], weights: Sequence[float]) -> State:
    """Compute the running statistics of all sites' activations together, from each site's own.

    By the law of total variance, with p_k the sites' shares: mean = sum_k p_k mean_k, and
    variance = sum_k p_k (variance_k + (mean_k - mean)^2). A plain average of the variances omits the last term, and is
    too small where sites differ. Each site's statistics are those of the weights it trained, not of the averaged
    weights; that mismatch (Wang, Shi and Chang, 2023) is not corrected.

    Args:
        updates: Updates of the sites.
        weights: Weights of the sites, above 0, in the same order.

    Returns:
        Means and variances by name, float32 [channels].
    """
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    pooled: State = {}
    for name in (name for name in updates[0] if name.endswith(MEAN)):
        variance_name = name.removesuffix(MEAN) + VARIANCE
        means = _stack(updates, name)
        mean = shares @ means
        # In float64, since the squared differences of large, nearly equal means would vanish in float32.
        variance = shares @ (_stack(updates, variance_name) + (means - mean).square())
        pooled |= {name: mean.float(), variance_name: variance.float()}
    return pooled


def _stack(updates: Sequence[State], name: str) -> Tensor:
    return torch.stack([update[name].double() for update in updates])
