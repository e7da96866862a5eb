"""The state of a model: what sites exchange and checkpoints contain. Importable without timm."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fedbus.errors import WeightsError, listed

State = dict[str, Tensor]
"""Parameters and buffers by name: float32, contiguous, on the CPU.

BatchNorm's `num_batches_tracked` is left out: it is an integer that counts steps, so an average of it has no meaning,
and BatchNorm with a fixed momentum does not use it.
"""


def get_state(model: nn.Module) -> State:
    """Copy a model's state to the CPU as float32."""
    return {
        key: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def set_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state made by `get_state` into a model of the same architecture.

    Raises:
        WeightsError: If names or shapes differ; the model is then unchanged.
    """
    own = {k: v.shape for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = sorted(own.keys() ^ state.keys()) + [k for k in own.keys() & state.keys() if own[k] != state[k].shape]
    if wrong:
        raise WeightsError(
            f"These weights belong to another model: {listed(wrong)} do not fit.",
            "Use weights of the same model (--set model=NAME).",
        )
    model.load_state_dict(dict(state), strict=False)  # strict would require num_batches_tracked


def mean_state(states: Sequence[State]) -> State:
    """Return the mean of states of one model; empty for none."""
    return {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in (states[0] if states else ())}


def state_digest(state: State) -> str:
    """SHA-256 over names and values, as 64 hex digits: equal digests mean equal weights."""
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode())
        content.update(state[key].numpy().tobytes())
    return content.hexdigest()
