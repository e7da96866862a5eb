"""The training loop, the same for local training, the centralised baseline and a federated client.

The images are on the device as uint8, a batch is a gather, augmentation runs on the device, and nothing in the loop
waits for the device before its end. Which rows a step uses depends only on the seed and the step, so that a run can be
interrupted and resumed at any round.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fedbus.errors import RunError
from fedbus.models.batch_norm import freeze_batch_norm
from fedbus.seeds import derive_seed
from fedbus.system.progress import Progress
from fedbus.training.augmentation import draw_views
from fedbus.training.cuda_graph import prepare_steps
from fedbus.training.losses import make_criterion
from fedbus.training.optimiser import learning_rate
from fedbus.training.row_order import RowOrder
from fedbus.training.rows import TrainingRows
from fedbus.training.step import TrainingStep

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


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
    """Train a model for one round, in place.

    Args:
        model: Model on the device of `rows`, channels_last.
        rows: Training rows.
        settings: Settings of the comparison.
        seed: The training seed.
        round_number: Number of the round, from 1; it determines rows, augmentation and learning rate.
        steps: Optimiser steps of this round, and of every other.
        optimiser: Optimiser of the model's parameters. The caller decides whether its state is kept between rounds.
        proximal_mu: FedProx's mu: mu/2 ||w - w0||^2 is added to the loss, where w0 are the weights at the start of the
            round (Li et al. 2020, equation 2).
        progress: Called with the number of images of every batch.

    Returns:
        The mean loss of the round, without the proximal term.

    Raises:
        RunError: If the loss is not finite.
    """
    criterion = make_criterion(model, rows, settings)
    model.train()
    if settings.batch_norm == "frozen":
        freeze_batch_norm(model)
    step = TrainingStep(model, rows.images, criterion, settings, optimiser, proximal_mu)
    drawn = _draw_round(rows, settings, seed, round_number, steps)
    with prepare_steps(step, optimiser, rows.images.device, steps) as take:
        for number in range(steps):
            rate = learning_rate(settings, (round_number - 1 + number / steps) / settings.rounds)
            take(rate, *(values[number] for values in drawn))
            progress(rows.batch_size(settings))
        loss = float(step.total / steps)  # waits for the device
    return _check_finite(loss, f"{rows.owner}: the loss of round {round_number}")


def _draw_round(rows: TrainingRows, settings: "Settings", seed: int, round_number: int, steps: int) -> list[Tensor]:
    """Draw everything random that a round needs, and copy it to the device before the loop starts.

    Returns:
        Positions in `rows.images` and labels, both int64 [steps, B], and with augmentation the views of `draw_views`.
    """
    device, batch_size = rows.images.device, rows.batch_size(settings)
    order = RowOrder(rows.owner, len(rows.index), batch_size, seed)
    picked = torch.stack([order.batch((round_number - 1) * steps + step) for step in range(steps)]).to(device)
    drawn = [rows.index[picked], rows.labels[picked]]
    if settings.augmentation:
        generator = torch.Generator().manual_seed(derive_seed(seed, "augment", rows.owner, round_number))
        drawn.append(draw_views(steps, batch_size, generator).to(device))
    return drawn


def _check_finite(loss: float, what: str) -> float:
    if not np.isfinite(loss):
        raise RunError(
            f"{what} is not a finite number.",
            "Lower the learning rate (--set learning-rate=1e-4) or use --set precision=float32.",
        )
    return loss
