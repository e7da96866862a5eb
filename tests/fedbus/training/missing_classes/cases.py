"""Sites that have all classes or lack one, a batch of theirs, and its probabilities by NumPy."""

import numpy as np
import torch

from fedbus.models.inputs import normalise
from fedbus.settings.schema import Settings
from fedbus.training.losses import make_criterion
from fedbus.training.missing_classes.criterion import Criterion
from fedbus.training.rows import TrainingRows, site_rows
from tests.models import CPU, linear_model, softmax
from tests.tiny import noise_site, tiny_settings

ALL, NO_NORMAL, NO_BENIGN, ONE = (25, 10, 5), (25, 10, 0), (0, 10, 25), (0, 15, 0)
LACKING = (NO_NORMAL, NO_BENIGN, ONE)
NOTHING = torch.empty(0)
"""For a loss that does not look at the images."""


def site_with(policy: str, counts: tuple[int, int, int], **changes: object) -> tuple[TrainingRows, Settings]:
    settings = tiny_settings(missing_classes=policy, **changes)
    return site_rows(noise_site(counts=counts), settings, 0, CPU), settings


def criterion_of(policy: str, counts: tuple[int, int, int], **changes: object) -> tuple[Criterion, TrainingRows]:
    rows, settings = site_with(policy, counts, **changes)
    return make_criterion(linear_model(), rows, settings), rows


def draw_logits(rows: TrainingRows, seed: int = 0) -> torch.Tensor:
    logits = 3 * np.random.default_rng(seed).standard_normal((len(rows.labels), 3))
    return torch.tensor(logits, dtype=torch.float32, requires_grad=True)


def whole_batch(rows: TrainingRows) -> torch.Tensor:
    """All rows as a model sees them."""
    return normalise(rows.images[rows.index].float() / 255)


def value_and_gradient(
    criterion: Criterion, logits: torch.Tensor, labels: torch.Tensor, images: torch.Tensor = NOTHING
) -> tuple[float, np.ndarray]:
    loss = criterion(logits, labels, images)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.item(), gradient.double().numpy()


def probabilities(logits: torch.Tensor) -> np.ndarray:
    return softmax(logits.detach().double().numpy())


def smoothed(labels: torch.Tensor, smoothing: float, classes: list[int]) -> np.ndarray:
    """Targets [B, 3] whose smoothing is spread over some classes."""
    targets = (1 - smoothing) * np.eye(3)[labels.numpy()]
    targets[:, classes] += smoothing / len(classes)
    return targets


def cross_entropy(p: np.ndarray, targets: np.ndarray, rows: TrainingRows) -> float:
    """Of float64 probabilities, weighted by class as PyTorch weighs: by target above, by label below."""
    weights = rows.class_weights.double().numpy()
    cost = np.where(targets > 0, -weights * targets * np.log(np.where(targets > 0, p, 1)), 0)
    return float(cost.sum() / weights[rows.labels.numpy()].sum())
