"""The one training loop: a hospital alone, the pooled baseline and a federated client all run it.

The rows lie on the device as uint8, a batch is a gather, augmentation runs on the device, and the loop never waits for
the device except at its end. Which rows stand in step s follows from the seed and s alone, so a run can be cut and
resumed at any round.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.augmentation import augment, draw_views
from fedbus.batch_norm import freeze_batch_norm
from fedbus.device import autocast, pick_dtype
from fedbus.errors import RunError
from fedbus.losses import add_proximal_gradient
from fedbus.manifest import CLASSES
from fedbus.missing_classes import make_criterion
from fedbus.sampling import Balanced
from fedbus.seeds import derive_seed

if TYPE_CHECKING:
    from fedbus.study import Study  # needs pydantic, which a machine that only trains need not have

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which every start weight here was trained with."""

Progress = Callable[[int], object]
"""Called with the number of images trained on since the last call."""


@dataclass(frozen=True)
class TrainingRows:
    """One holder's balanced training rows, on the device.

    Attributes:
        holder: the site's name, or `pooled`.
        images: uint8 [U, 1, H, W]; on a GPU the distinct pictures of the rows and the synthetic ones, on a processor
            the holder's whole array if nothing is synthetic. Never written to: it may be a read-only memory map.
        index: int64 [M] into `images`: the balanced rows, one entry a repetition.
        labels: int64 [M].
        class_weights: float32 [3] of the loss.
        present: int64 [K], the classes that this holder has.
        distinct: training images before balancing.
    """

    holder: str
    images: Tensor
    index: Tensor
    labels: Tensor
    class_weights: Tensor
    present: Tensor
    distinct: int

    def steps_per_round(self, study: "Study") -> int:
        """Optimiser steps that a round makes on these rows."""
        if study.steps_per_round:
            return study.steps_per_round
        return max(1, round(study.local_epochs * -(-len(self.index) // study.batch_size)))


def load_rows(
    holder: str, pixels: NDArray[np.uint8], balanced: Balanced, distinct: int, device: torch.device
) -> TrainingRows:
    """Put the balanced rows of one holder on the device, each distinct picture once.

    A processor reads them where they are: workers of one machine share the pages of a memory map, and take no memory
    of their own. Only synthetic pictures, which no file holds, make a copy necessary.

    Args:
        holder: the site's name, or `pooled`.
        pixels: uint8 [N, H, W], memory-mapped.
        balanced: rows of `pixels` and synthetic pictures.
        distinct: training images before balancing.
        device: where training runs.
    """
    images, index = pixels, balanced.rows
    if device.type != "cpu" or len(balanced.synthetic):
        unique, place = np.unique(balanced.rows, return_inverse=True)
        images = np.concatenate([pixels[unique], balanced.synthetic])
        index = np.concatenate([place, len(unique) + np.arange(len(balanced.synthetic))])
    return TrainingRows(
        holder=holder,
        images=_without_copy(images).unsqueeze(1).to(device),
        index=torch.from_numpy(index).to(device),
        labels=torch.from_numpy(balanced.labels).to(device),
        class_weights=torch.from_numpy(balanced.class_weights).to(device),
        present=torch.from_numpy(np.unique(balanced.labels)).to(device),
        distinct=distinct,
    )


def _without_copy(images: NDArray[np.uint8]) -> Tensor:
    """A tensor over an array's own memory, also where that is read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def make_optimiser(model: nn.Module, study: "Study") -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD with Nesterov momentum 0.9; no decay on biases and norms."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": study.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if study.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=study.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=study.learning_rate, momentum=0.9, nesterov=True, fused=True)


def learning_rate(study: "Study", progress: float) -> float:
    """The rate when a share `progress` in [0, 1] of all steps is done: linear warm-up, then cosine to 0."""
    if progress < study.warmup:
        return study.learning_rate * (progress + 0.01) / (study.warmup + 0.01)
    if study.schedule == "constant":
        return study.learning_rate
    rest = (progress - study.warmup) / (1 - study.warmup)
    return study.learning_rate * 0.5 * (1 + float(np.cos(np.pi * rest)))


def train_round(
    model: nn.Module,
    rows: TrainingRows,
    study: "Study",
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
        study: the settings.
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
    criterion = make_criterion(model, rows, study)
    model.train()
    if study.batch_norm == "frozen":
        freeze_batch_norm(model)
    device = rows.images.device
    dtype = pick_dtype(study.precision, device)
    index, labels, views = _draw_round(rows, study, seed, round_number, steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in parameters] if proximal_mu else []
    total = torch.zeros((), device=device)
    for step in range(steps):
        _set_rate(optimiser, learning_rate(study, (round_number - 1 + step / steps) / study.rounds))
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
    return _finite(float(total / steps), f"{rows.holder}: the loss of round {round_number}")


def _draw_round(
    rows: TrainingRows, study: "Study", seed: int, round_number: int, steps: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw all that a round needs and send it to the device at once: each copy in mid-round could make the loop wait.

    Returns:
        Rows of `rows.images` and labels, both int64 [steps, B], and the views of `draw_views`, None without
        augmentation.
    """
    device, order = rows.images.device, _RowOrder(rows, study, seed)
    picked = torch.stack([order.batch((round_number - 1) * steps + step) for step in range(steps)]).to(device)
    views = None
    if study.augmentation:
        generator = torch.Generator().manual_seed(derive_seed(seed, "augment", rows.holder, round_number))
        views = draw_views(steps, study.batch_size, generator).to(device)
    return rows.index[picked], rows.labels[picked], views


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _finite(loss: float, what: str) -> float:
    if not np.isfinite(loss):
        raise RunError(
            f"{what} is not a finite number.",
            "Lower the learning rate (--set learning-rate=1e-4) or use --set precision=float32.",
        )
    return loss


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: NDArray[np.uint8],
    study: "Study",
    present: Tensor | None = None,
    progress: Progress = lambda _: None,
) -> NDArray[np.float64]:
    """Class probabilities of pictures.

    Args:
        model: on its device.
        images: uint8 [N, H, W].
        study: the settings.
        present: int64 [K]: the classes that this model was trained on; the others get probability 0.
        progress: told of every batch.

    Returns:
        float64 [N, 3], rows sum to 1.
    """
    model.eval()
    device = next(model.parameters()).device
    dtype = pick_dtype(study.precision, device)
    absent = torch.ones(len(CLASSES), dtype=torch.bool)
    absent[slice(None) if present is None else present.cpu()] = False
    absent = absent.to(device)
    parts = [torch.empty(0, len(CLASSES), dtype=torch.float64, device=device)]
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(np.array(images[start : start + 64])).to(device)  # a copy: the map is read-only
        with autocast(device, dtype):
            logits = model(normalise(batch.unsqueeze(1).float() / 255)).float()
        parts.append(logits.masked_fill(absent, -torch.inf).double().softmax(dim=1))
        progress(len(batch))
    return torch.cat(parts).cpu().numpy()


def normalise(batch: Tensor) -> Tensor:
    """Grey float32 [B, 1, H, W] in [0, 1] to the three normalised channels of an ImageNet model, channels_last."""
    channels = [(batch - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)


class _RowOrder:
    """An endless stream of shuffled passes over the balanced rows; any step's batch can be asked for."""

    def __init__(self, rows: TrainingRows, study: "Study", seed: int) -> None:
        self.holder, self.count, self.seed = rows.holder, len(rows.index), seed
        self.batch_size = study.batch_size
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
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.holder, number))
            self.passes = {number: torch.randperm(self.count, generator=generator)}
        return self.passes[number]
