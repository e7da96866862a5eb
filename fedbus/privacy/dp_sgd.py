"""One round of training whose every step hides each patient: DP-SGD, with Opacus's optimiser.

A step draws patients independently (Poisson sampling), computes the gradient of each patient's images by itself, clips
it, adds the clipped gradients and Gaussian noise, and divides by the expected number of images. One patient at a time:
the memory is that of ordinary training on the images of one patient and three further copies of the model, and any
model without BatchNorm works. Opacus's gradients per image (`GradSampleModule`) need a copy of the model per image.

Import this module only where differential privacy is used: Opacus takes seconds.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fedbus.errors import RunError
from fedbus.models.inputs import normalise
from fedbus.privacy.keyed_random import KeyedRandom
from fedbus.privacy.model_check import refuse_batch_norm
from fedbus.privacy.patients import Patient, list_patients
from fedbus.privacy.plan import Plan
from fedbus.seeds import derive_seed
from fedbus.system.progress import Progress
from fedbus.training.augmentation import augment, draw_views
from fedbus.training.losses import add_proximal_gradient, make_criterion
from fedbus.training.missing_classes.criterion import Criterion
from fedbus.training.optimiser import learning_rate, set_learning_rate
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def train_private_round(
    model: nn.Module,
    rows: TrainingRows,
    settings: "Settings",
    plan: Plan,
    *,
    key: bytes,
    seed: int,
    round_number: int,
    optimiser: torch.optim.Optimizer,
    proximal_mu: float = 0.0,
    progress: Progress = lambda _: None,
) -> None:
    """Train a model for one round, in place and in float32. No loss is returned, since it would not be protected.

    Args:
        model: Model without BatchNorm on the device of `rows`, channels_last.
        rows: Training rows.
        settings: Settings of the comparison.
        plan: The plan for these rows and settings.
        key: Key of the draws and the noise, for this round only: see `release_key`.
        seed: The training seed, of the augmentation.
        round_number: Number of the round, from 1.
        optimiser: Optimiser of the model's parameters.
        proximal_mu: FedProx's mu, as in `train_round`. It needs no images, so it is added after the noise.
        progress: Called with the expected number of images of every step.

    Raises:
        SettingsError: If the model has BatchNorm.
        RunError: If a weight is no longer finite.
    """
    refuse_batch_norm(model, settings.model)
    criterion = make_criterion(model, rows, settings)
    model.train()
    patients, random, expected = list_patients(rows, settings), KeyedRandom(key), rows.batch_size(settings)
    rates, count = np.array([patient.rate for patient in patients]), sum(len(patient.index) for patient in patients)
    views = torch.Generator().manual_seed(derive_seed(seed, "augment", rows.owner, round_number))
    private = PatientOptimizer(optimiser, plan, expected, random)
    anchors = [p.detach().clone() for p in private.params] if proximal_mu else []
    for step in range(plan.steps):
        set_learning_rate(optimiser, learning_rate(settings, (round_number - 1 + step / plan.steps) / settings.rounds))
        private.zero_grad(set_to_none=True)
        # Of all images, drawn or not: the views of a patient must not depend on who else was drawn.
        of_step = draw_views(1, count, views)[0].to(rows.images.device) if settings.augmentation else None
        for number in np.flatnonzero(random.uniform(len(patients)) < rates):
            add_gradient(model, criterion, rows, patients[number], of_step, settings.batch_size)
            private.clip_patient()
        private.add_noise()
        private.scale_grad()
        if anchors:
            add_proximal_gradient(private.params, anchors, proximal_mu)
        optimiser.step()
        progress(expected)
    if not all(bool(p.isfinite().all()) for p in private.params):
        raise RunError(
            f"{rows.owner}: the weights of round {round_number} are not finite numbers.",
            "Lower the learning rate (--set learning-rate=1e-4) or dp-clip.",
        )


def add_gradient(
    model: nn.Module,
    criterion: Criterion,
    rows: TrainingRows,
    patient: Patient,
    views: Tensor | None,
    most_images: int,
) -> None:
    """Add the gradient of a patient's loss, summed over the weighted images, to the gradients of the parameters.

    Args:
        model: The model.
        criterion: The loss; its mean over images is that of each image alone, since no class is weighted.
        rows: Training rows.
        patient: One of their patients.
        views: float32 [U, 8], the views of all distinct images; None without augmentation.
        most_images: Images in memory at a time.
    """
    for part in torch.split(torch.arange(len(patient.index), device=patient.index.device), most_images):
        batch = rows.images.index_select(0, patient.index[part]).float() / 255
        if views is not None:
            batch = augment(batch, views[patient.places[part]])
        images, labels = normalise(batch), patient.labels[part]
        logits = model(images)
        total = logits.new_zeros(())
        for label in torch.unique(labels):  # images of a class have equal weights
            own = (labels == label).nonzero().squeeze(1)
            weight = patient.weights[part][own].sum()
            total = total + weight * criterion(logits[own], labels[own], images[own])
        total.backward()


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser, whose samples are patients, and whose noise comes from a secret key."""

    def __init__(self, optimiser: torch.optim.Optimizer, plan: Plan, expected: int, random: KeyedRandom) -> None:
        super().__init__(
            optimiser,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip,
            expected_batch_size=expected,
        )
        self.random = random

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Start a step, in which perhaps no patient is drawn."""
        super().zero_grad(set_to_none)
        for p in self.params:
            p.summed_grad = torch.zeros_like(p)
            p.grad_sample = p.new_zeros((0, *p.shape))

    def clip_patient(self) -> None:
        """Clip the gradients of the parameters, as those of one patient, add them to the sum, and clear them."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        # A patient whose gradient overflows counts as absent: no clipping would bound what is not finite.
        usable = torch.stack([gradient.sum() for gradient in gradients]).sum().isfinite()
        for p, gradient in zip(self.params, gradients, strict=True):
            p.grad_sample = torch.where(usable, gradient, 0.0).unsqueeze(0)
            p.grad = None
        self.clip_and_accumulate()

    def add_noise(self) -> None:
        """Add the noise to the clipped sum, as `DPOptimizer` does, but from the keyed stream."""
        for p in self.params:
            noise = self.random.normal(p.shape).to(p.device)
            # In place: fused optimisers need a gradient in the memory format of its parameter.
            p.grad = p.summed_grad.add_(noise, alpha=self.noise_multiplier * self.max_grad_norm)
            p.summed_grad, p.grad_sample = None, p.new_zeros(0)  # empty, but there: `scale_grad` counts them
