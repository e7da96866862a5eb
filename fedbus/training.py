"""The one training loop: a hospital alone, the pooled baseline and a federated client all run it.

The rows lie on the device as uint8, a batch is a gather, augmentation runs on the device, and the loop never waits for
the device except at its end. Which rows stand in step s follows from the seed and s alone, so a run can be cut and
resumed at any round.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.augmentation import augment
from fedbus.device import autocast, pick_dtype
from fedbus.errors import RunError
from fedbus.manifest import CLASSES
from fedbus.sampling import Balanced
from fedbus.seeds import derive_seed
from fedbus.study import Study

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which every start weight here was trained with."""

Progress = Callable[[int], object]
"""Called with the number of images trained on since the last call."""


@dataclass(frozen=True)
class TrainingRows:
    """One holder's balanced training rows, on the device.

    Attributes:
        holder: the site's name, or `pooled`.
        images: uint8 [U, 1, H, W], distinct pictures (and synthetic ones) only.
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

    def steps_per_round(self, study: Study) -> int:
        """Optimiser steps that a round makes on these rows."""
        return max(1, round(study.local_epochs * -(-len(self.index) // study.batch_size)))


def load_rows(
    holder: str, pixels: NDArray[np.uint8], balanced: Balanced, distinct: int, device: torch.device
) -> TrainingRows:
    """Put the balanced rows of one holder on the device, each distinct picture once.

    Args:
        holder: the site's name, or `pooled`.
        pixels: uint8 [N, H, W], memory-mapped.
        balanced: rows of `pixels` and synthetic pictures.
        distinct: training images before balancing.
        device: where training runs.
    """
    unique, place = np.unique(balanced.rows, return_inverse=True)
    images = np.concatenate([pixels[unique], balanced.synthetic])
    index = np.concatenate([place, len(unique) + np.arange(len(balanced.synthetic))])
    return TrainingRows(
        holder=holder,
        images=torch.from_numpy(images).unsqueeze(1).to(device),
        index=torch.from_numpy(index).to(device),
        labels=torch.from_numpy(balanced.labels).to(device),
        class_weights=torch.from_numpy(balanced.class_weights).to(device),
        present=torch.from_numpy(np.unique(balanced.labels)).to(device),
        distinct=distinct,
    )


def make_optimiser(model: nn.Module, study: Study) -> torch.optim.Optimizer:
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


def learning_rate(study: Study, progress: float) -> float:
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
    study: Study,
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
    model.train()
    if study.batch_norm == "frozen":
        freeze_batch_norm(model)
    device = rows.images.device
    dtype = pick_dtype(study.precision, device)
    order = _RowOrder(rows, study, seed)
    views = torch.Generator().manual_seed(derive_seed(seed, "augment", rows.holder, round_number))
    criterion = _Criterion(rows, study)
    parameters = [p for p in model.parameters() if p.requires_grad]
    anchors = [p.detach().clone() for p in parameters] if proximal_mu else []
    total = torch.zeros((), device=device)
    for step in range(steps):
        _set_rate(optimiser, learning_rate(study, (round_number - 1 + step / steps) / study.rounds))
        picked = order.batch((round_number - 1) * steps + step)
        batch = rows.images[rows.index[picked]].float() / 255
        if study.augmentation:
            batch = augment(batch, views)
        with autocast(device, dtype):
            logits = model(normalise(batch))
        loss = criterion(logits.float(), rows.labels[picked])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if anchors:
            _add_proximal_gradient(parameters, anchors, proximal_mu)
        optimiser.step()
        total += loss.detach()
        progress(len(picked))
    return _finite(float(total / steps), f"{rows.holder}: the loss of round {round_number}")


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
    study: Study,
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
    parts = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(np.array(images[start : start + 64])).to(device)  # a copy: the map is read-only
        with autocast(device, dtype):
            logits = model(normalise(batch.unsqueeze(1).float() / 255)).float()
        if present is not None:
            absent = torch.ones(len(CLASSES), dtype=torch.bool, device=device)
            absent[present.to(device)] = False
            logits = logits.masked_fill(absent, -torch.inf)
        parts.append(logits.double().softmax(dim=1).cpu())
        progress(len(batch))
    return torch.cat(parts).numpy() if parts else np.empty((0, len(CLASSES)))


def normalise(batch: Tensor) -> Tensor:
    """Grey float32 [B, 1, H, W] in [0, 1] to the three normalised channels of an ImageNet model, channels_last."""
    channels = [(batch - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)


def freeze_batch_norm(model: nn.Module) -> None:
    """Let every BatchNorm normalise by its running statistics, and leave those unchanged."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class _RowOrder:
    """An endless stream of shuffled passes over the balanced rows; any step's batch can be asked for."""

    def __init__(self, rows: TrainingRows, study: Study, seed: int) -> None:
        self.holder, self.count, self.seed = rows.holder, len(rows.index), seed
        self.batch_size, self.device = study.batch_size, rows.index.device
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
            self.passes = {number: torch.randperm(self.count, generator=generator).to(self.device)}
        return self.passes[number]


class _Criterion:
    """Cross-entropy with label smoothing and class weights, over the classes that the holder has under `mask`.

    Masked, a class that a site never saw takes no part in the softmax, so the site's loss can't drive it out of the
    shared model (restricted softmax in the sense of FedRS, Li and Zhan 2021, with the restricted logits left out).
    """

    def __init__(self, rows: TrainingRows, study: Study) -> None:
        masked = study.missing_classes == "mask"
        every = torch.arange(len(CLASSES), device=rows.present.device)
        self.columns = rows.present if masked else every
        self.place = torch.full_like(every, -1)
        self.place[self.columns] = torch.arange(len(self.columns), device=every.device)
        self.weights = rows.class_weights[self.columns]
        self.smoothing = study.label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits[:, self.columns], self.place[labels], weight=self.weights, label_smoothing=self.smoothing
        )


def _add_proximal_gradient(parameters: list[nn.Parameter], anchors: list[Tensor], mu: float) -> None:
    moved = [(p.grad, p, anchor) for p, anchor in zip(parameters, anchors, strict=True) if p.grad is not None]
    with torch.no_grad():
        drift = torch._foreach_sub([p for _, p, _ in moved], [anchor for _, _, anchor in moved])
        torch._foreach_add_([gradient for gradient, _, _ in moved], drift, alpha=mu)
