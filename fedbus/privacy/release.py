"""What makes a round's result the same result: the same inputs, and then the same draws and the same noise.

A round that is repeated after a crash must give the same update again: two results with different noise would tell
more than one. And two different results must never share their noise: their difference would tell all. So the key of
the noise is computed from a secret and from everything that the update depends on.
"""

import hashlib
import hmac
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbus.models.state import State, state_digest
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def release_digest(
    state: State,
    optimiser_state: dict[str, Tensor],
    rows: TrainingRows,
    settings: "Settings",
    *,
    seed: int,
    round_number: int,
    steps: int,
    proximal_mu: float,
) -> str:
    """Digest everything that the result of a round depends on, images included, as 64 hex digits.

    Args:
        state: The model that the round starts from.
        optimiser_state: The optimiser's state, see `optimiser_tensors`.
        rows: Training rows.
        settings: Settings of the comparison.
        seed: The training seed.
        round_number: Number of the round.
        steps: Optimiser steps.
        proximal_mu: FedProx's mu.
    """
    from fedbus.runs.folder import MAY_CHANGE  # imports pydantic
    from fedbus.settings.schema import NOT_SENT

    # Neither what a resumed run may change nor what a hub does not send: a site alone must get the same digest.
    others = {key.replace("-", "_") for key in MAY_CHANGE} | set(NOT_SENT)
    words = [settings.model_dump_json(exclude=others), rows.owner, seed, round_number, steps, proximal_mu]
    content = hashlib.sha256(json.dumps([*words, state_digest(state), state_digest(optimiser_state)]).encode())
    used = rows.images.index_select(0, torch.unique(rows.index))
    for tensor in (used, rows.index, rows.labels, *(() if rows.groups is None else (rows.groups,))):
        content.update(hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).digest())
    return content.hexdigest()


def release_key(secret: bytes, digest: str) -> bytes:
    """Derive the key of a round's draws and noise, 32 bytes.

    Args:
        secret: The site's secret, or `simulated_secret`.
        digest: See `release_digest`.
    """
    return hmac.digest(secret, digest.encode(), "sha256")


def simulated_secret(seed: int) -> bytes:
    """Return the secret of all sites in a simulation, where equal seeds give equal results.

    **Anyone who knows the seed knows the noise**: a simulation shows what the guarantee costs and does not give it.
    """
    return hashlib.sha256(f"fedbus simulation {seed}".encode()).digest()
