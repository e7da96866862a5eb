"""The state of a model that travels between sites."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedbus.errors import WeightsError, listed

State = dict[str, Tensor]
"""Parameters and buffers by name, float32, on the CPU, without BatchNorm's `num_batches_tracked`: that integer counts
steps, means nothing once averaged, and is not used where momentum is fixed."""


def get_state(model: nn.Module) -> State:
    """Copy a model's state to the CPU as float32."""
    return {
        key: value.detach().to("cpu", torch.float32, copy=True).contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def state_digest(state: State) -> str:
    """SHA-256 over names and values: equal digests, equal models."""
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode())
        content.update(state[key].numpy().tobytes())
    return content.hexdigest()


def set_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state made by `get_state` into a model of the same kind.

    Raises:
        WeightsError: names or shapes differ; the first few are said.
    """
    own = {k: v.shape for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = sorted(own.keys() ^ state.keys()) + [k for k in own.keys() & state.keys() if own[k] != state[k].shape]
    if wrong:
        raise WeightsError(f"These weights are of another model: {listed(wrong)} do not fit.", "Name the same model.")
    model.load_state_dict(dict(state), strict=False)
