"""The one training loop: a hospital alone, the pooled baseline and a federated client all run it.

The rows lie on the device as uint8, a batch is a gather, augmentation runs on the device, and the loop never waits for
the device except at its end. Which rows stand in step s follows from the seed and s alone, so a run can be cut and
resumed at any round.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fedbus.device import autocast, pick_dtype
from fedbus.errors import RunError
from fedbus.models.batch_norm import freeze_batch_norm
from fedbus.models.inputs import normalise
from fedbus.seeds import derive_seed
from fedbus.system.progress import Progress
from fedbus.training.augmentation import augment, draw_views
from fedbus.training.losses import add_proximal_gradient
from fedbus.training.missing_classes.registry import make_criterion
from fedbus.training.optimiser import _set_rate, learning_rate
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains need not have


def train_round(
    model: nn.Module,
    rows: TrainingRows,
    settings: "Settings",
    *,
    seed: int,
    round_number: int,
    steps: int,
    optimiser: torch.optim.Optimizer,
    proximal_mu: float = 0.0,
    progress: Progress = lambda _: None,
) -> float:
    """Train for one round, in place.

    Args:
        model: on the device of `rows`, channels_last.
        rows: what to train on.
        settings: the settings.
        seed: the training seed.
        round_number: from 1; decides which rows, augmentations and learning rates.
        steps: optimiser steps of this round (and of every round).
        optimiser: of this model; its state is the caller's to keep or to drop.
        proximal_mu: FedProx's mu: adds mu/2 ||w - w0||^2 to the loss, w0 the weights at the round's start
            (Li et al. 2020, equation 2).
        progress: told of every batch.

    Returns:
        The mean loss of the round, without the proximal term.

    Raises:
        RunError: the loss is not finite.
    """
    criterion = make_criterion(model, rows, settings)
    model.train()
    if settings.batch_norm == "frozen":
        freeze_batch_norm(model)
    device = rows.images.device
    dtype = pick_dtype(settings.precision, device)
    index, labels, views = _draw_round(rows, settings, seed, round_number, steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in parameters] if proximal_mu else []
    total = torch.zeros((), device=device)
    for step in range(steps):
        _set_rate(optimiser, learning_rate(settings, (round_number - 1 + step / steps) / settings.rounds))
        batch = rows.images.index_select(0, index[step]).float() / 255
        if views is not None:
            batch = augment(batch, views[step])
        pictures = normalise(batch)
        with autocast(device, dtype):
            logits = model(pictures)
        loss = criterion(logits.float(), labels[step], pictures)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if anchors:
            add_proximal_gradient(parameters, anchors, proximal_mu)
        optimiser.step()
        total += loss.detach()
        progress(len(batch))
    return _finite(float(total / steps), f"{rows.owner}: the loss of round {round_number}")


def _draw_round(
    rows: TrainingRows, settings: "Settings", seed: int, round_number: int, steps: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw all that a round needs and send it to the device at once: each copy in mid-round could make the loop wait.

    Returns:
        Rows of `rows.images` and labels, both int64 [steps, B], and the views of `draw_views`, None without
        augmentation.
    """
    device, order = rows.images.device, _RowOrder(rows, settings, seed)
    picked = torch.stack([order.batch((round_number - 1) * steps + step) for step in range(steps)]).to(device)
    views = None
    if settings.augmentation:
        generator = torch.Generator().manual_seed(derive_seed(seed, "augment", rows.owner, round_number))
        views = draw_views(steps, settings.batch_size, generator).to(device)
    return rows.index[picked], rows.labels[picked], views


def _finite(loss: float, what: str) -> float:
    if not np.isfinite(loss):
        raise RunError(
            f"{what} is not a finite number.",
            "Lower the learning rate (--set learning-rate=1e-4) or use --set precision=float32.",
        )
    return loss


class _RowOrder:
    """An endless stream of shuffled passes over the balanced rows; any step's batch can be asked for."""

    def __init__(self, rows: TrainingRows, settings: "Settings", seed: int) -> None:
        self.owner, self.count, self.seed = rows.owner, len(rows.index), seed
        self.batch_size = settings.batch_size
        self.passes: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        position, stop = step * self.batch_size, (step + 1) * self.batch_size
        pieces = []
        while position < stop:
            number, offset = divmod(position, self.count)
            piece = self._pass(number)[offset : offset + stop - position]
            pieces.append(piece)
            position += len(piece)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _pass(self, number: int) -> Tensor:
        if number not in self.passes:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.owner, number))
            self.passes = {number: torch.randperm(self.count, generator=generator)}
        return self.passes[number]
