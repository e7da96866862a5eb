"""DP-SGD against gradients that plain autograd computes for each patient, and against what it promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedbus.errors import RunError, SettingsError
from fedbus.models.build import build_model
from fedbus.models.inputs import normalise
from fedbus.privacy.dp_sgd import PatientOptimizer, add_gradient, train_private_round
from fedbus.privacy.keyed_random import KeyedRandom
from fedbus.privacy.patients import list_patients
from fedbus.settings.schema import Settings
from fedbus.training.losses import make_criterion
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows
from tests.fedbus.privacy.private_rows import (
    KEY,
    patients_site,
    plan_of,
    private_settings,
    rows_of,
    tiny_model,
)

PLAIN = {"schedule": "constant", "warmup": 0.0, "optimiser": "sgd", "weight_decay": 0.0, "learning_rate": 1.0}


def drawn_by(key: bytes, patients: list) -> list[int]:
    """Which patients the first step of a key draws."""
    return np.flatnonzero(KeyedRandom(key).uniform(len(patients)) < [p.rate for p in patients]).tolist()


def patient_gradient(model: nn.Module, rows: TrainingRows, settings: Settings, number: int) -> Tensor:
    """Gradient of one patient's weighted losses, image by image, by plain autograd; float64 [P]."""
    patient = list_patients(rows, settings)[number]
    model, total = model.double(), torch.zeros(())
    for index, label, weight in zip(patient.index, patient.labels, patient.weights, strict=True):
        image = normalise(rows.images[index : index + 1].double() / 255)
        loss = F.cross_entropy(model(image.double()), label[None], label_smoothing=settings.label_smoothing)
        total = total + weight * loss
    return torch.cat([g.ravel() for g in torch.autograd.grad(total, list(model.parameters()))])


def clipped(gradient: Tensor, clip: float) -> Tensor:
    return gradient * min(1.0, clip / float(gradient.norm()))


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().ravel() for p in model.parameters()])


def step(
    model: nn.Module,
    rows: TrainingRows,
    settings: Settings,
    clip: float,
    noise: float = 0.0,
    key: bytes = KEY,
    **more: object,
) -> Tensor:
    """How one step moves the weights."""
    before = flat(model)
    plan = plan_of(rows, clip, noise)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    train_private_round(model, rows, settings, plan, key=key, seed=0, round_number=1, optimiser=optimiser, **more)
    return flat(model) - before


@pytest.mark.parametrize("clip", [0.05, 2.0, 1000.0])
def test_a_step_is_the_sum_of_the_clipped_gradients_of_the_drawn_patients(clip):
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    patients = list_patients(rows, settings)
    chosen = drawn_by(KEY, patients)
    assert 0 < len(chosen) < len(patients)
    expected = sum(clipped(patient_gradient(tiny_model(), rows, settings, number), clip) for number in chosen)
    moved = step(tiny_model(), rows, settings, clip)
    assert torch.allclose(moved, -expected / settings.batch_size, atol=1e-5)


def test_without_clip_and_noise_the_expected_step_is_that_of_ordinary_training():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    model = tiny_model()
    images = normalise(rows.images[rows.index].float() / 255)
    F.cross_entropy(model(images), rows.labels, label_smoothing=settings.label_smoothing).backward()
    ordinary = torch.cat([p.grad.ravel() for p in model.parameters()]).double()
    # Over-sampling repeats single images by chance; on average, every image of a class equally often.
    patients = list_patients(rows, settings)
    mean = sum(p.rate * patient_gradient(tiny_model(), rows, settings, n) for n, p in enumerate(patients))
    counts = torch.bincount(rows.labels, minlength=3)
    per_class = torch.zeros_like(ordinary)
    for label in range(3):
        own = torch.unique(rows.index[rows.labels == label])
        model.zero_grad()
        logits = model(normalise(rows.images[own].float() / 255))
        F.cross_entropy(logits, torch.full((len(own),), label), label_smoothing=settings.label_smoothing).backward()
        per_class += counts[label] / len(rows.index) * torch.cat([p.grad.ravel() for p in model.parameters()]).double()
    assert torch.allclose(mean / settings.batch_size, per_class, atol=1e-5)
    assert F.cosine_similarity(ordinary, mean, dim=0) > 0.9


@pytest.mark.parametrize("change", ["white", "absent"])
@pytest.mark.parametrize("sampler", ["ros", "none"])
def test_one_patient_changes_the_clipped_sum_by_at_most_the_clip(change, sampler):
    settings, clip = private_settings(**PLAIN, sampler=sampler), 0.1
    rows = rows_of(settings)
    patients = list_patients(rows, settings)
    before = step(tiny_model(), rows, settings, clip) * settings.batch_size
    for number in drawn_by(KEY, patients):
        if change == "white":  # the most that pixels can change; two gradients of length clip are 2 clip apart
            images = rows.images.clone()
            images[patients[number].index] = 255
            after, most = step(tiny_model(), replace(rows, images=images), settings, clip), 2 * clip
        else:
            after, most = before / settings.batch_size + _contribution(rows, settings, number, clip), clip
        difference = float((after * settings.batch_size - before).norm())
        assert 0 < difference <= most * (1 + 1e-4)


def _contribution(rows: TrainingRows, settings: Settings, number: int, clip: float) -> Tensor:
    """What one patient adds to a step, computed by the optimiser for this patient only."""
    model = tiny_model()
    private = PatientOptimizer(
        torch.optim.SGD(model.parameters(), lr=1.0), plan_of(rows, clip), settings.batch_size, KeyedRandom(KEY)
    )
    private.zero_grad()
    add_gradient(model, make_criterion(model, rows, settings), rows, list_patients(rows, settings)[number], None, 4)
    private.clip_patient()
    return torch.cat([p.summed_grad.ravel() for p in model.parameters()]).double() / settings.batch_size


def test_the_noise_has_the_planned_size_and_is_another_for_another_key():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    without = step(tiny_model(), rows, settings, 0.5)
    noises = [
        (step(tiny_model(), rows, settings, 0.5, noise=3.0, key=KEY) - without) * settings.batch_size,
        (step(tiny_model(), rows, settings, 0.5, noise=3.0, key=KEY) - without) * settings.batch_size,
    ]
    assert torch.equal(*noises)
    count = len(noises[0])
    assert float(noises[0].std()) == pytest.approx(1.5, rel=5 / np.sqrt(2 * count))
    assert abs(float(noises[0].mean())) < 5 * 1.5 / np.sqrt(count)
    other = step(tiny_model(), rows, settings, 0.5, noise=3.0, key=bytes(32))
    assert abs(float(torch.corrcoef(torch.stack([noises[0], other]))[0, 1])) < 5 / np.sqrt(count)


def test_a_step_without_patients_is_noise_only():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    patients = list_patients(rows, settings)
    key = next(key for number in range(256) if not drawn_by(key := bytes([number]) * 32, patients))
    moved = step(tiny_model(), rows, settings, 0.5, noise=1.0, key=key)
    random = KeyedRandom(key)
    random.uniform(len(patients))
    noise = torch.cat([random.normal(p.shape).ravel() for p in tiny_model().parameters()]).double()
    assert torch.allclose(moved, -0.5 * noise / settings.batch_size, atol=1e-6)


def test_the_views_of_a_patient_do_not_depend_on_who_else_is_drawn():
    settings = private_settings(**PLAIN, augmentation=True)
    rows = rows_of(settings)
    patients = list_patients(rows, settings)
    keys = [bytes([number]) * 32 for number in range(60)]
    sums = {tuple(drawn_by(key, patients)): step(tiny_model(), rows, settings, 1000.0, key=key) for key in keys[:25]}
    alone = {who[0]: moved for who, moved in sums.items() if len(who) == 1}
    pairs = [(who, moved) for who, moved in sums.items() if len(who) == 2 and set(who) <= alone.keys()]
    assert pairs
    for (one, two), moved in pairs:
        assert torch.allclose(moved, alone[one] + alone[two], atol=1e-5)


def test_the_proximal_term_is_added_after_the_noise_without_clipping():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    models = [tiny_model(), tiny_model()]
    for model, mu in zip(models, (0.0, 0.25), strict=True):
        train_private_round(
            model, rows, settings, plan_of(rows, 0.01, steps=2), key=KEY, seed=0, round_number=1,
            optimiser=torch.optim.SGD(model.parameters(), lr=0.5), proximal_mu=mu,
        )  # fmt: skip
    first = tiny_model()
    train_private_round(
        first, rows, settings, plan_of(rows, 0.01), key=KEY, seed=0, round_number=1,
        optimiser=torch.optim.SGD(first.parameters(), lr=0.5),
    )  # fmt: skip
    # After one step w1 = w0 + d1; the second step adds -rate * mu (w1 - w0). The learning rate is set to 1 by PLAIN.
    expected = flat(models[0]) - 0.25 * (flat(first) - flat(tiny_model()))
    assert torch.allclose(flat(models[1]), expected, atol=1e-3 * 0.01)


@pytest.mark.parametrize("policy", ["mask", "plain", "restricted", "softened", "balanced", "distil"])
def test_every_loss_for_missing_classes_is_the_sum_over_images(policy):
    settings = private_settings(**PLAIN, missing_classes=policy, label_smoothing=0.1)
    site = patients_site()
    two = {"train": site.splits["train"][site.labels[site.splits["train"]] < 2]}
    rows = rows_of(settings, replace(site, splits=site.splits | two))
    model = tiny_model()
    criterion = make_criterion(model, rows, settings)
    patient = list_patients(rows, settings)[5]
    assert len(set(patient.labels.tolist())) == 2
    add_gradient(model, criterion, rows, patient, None, 2)  # in parts of two images
    found = torch.cat([p.grad.ravel() for p in model.parameters()])
    model.zero_grad()
    for index, label, weight in zip(patient.index, patient.labels, patient.weights, strict=True):
        image = normalise(rows.images[index : index + 1].float() / 255)
        (weight * criterion(model(image), label[None], image)).backward()
    assert torch.allclose(found, torch.cat([p.grad.ravel() for p in model.parameters()]), atol=1e-5)


def test_a_patient_whose_gradient_is_not_finite_counts_as_absent():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    model = tiny_model()
    private = PatientOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), plan_of(rows), 4, KeyedRandom(KEY))
    private.zero_grad()
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.inf)
    private.clip_patient()
    assert all(not p.summed_grad.any() for p in model.parameters())


def test_weights_that_are_not_finite_end_the_round():
    settings = private_settings(**PLAIN)
    rows = rows_of(settings)
    model = tiny_model()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(RunError, match="north"):
        step(model, rows, settings, 1.0, noise=1.0)


def test_a_model_with_batch_norm_is_refused_with_one_that_works():
    settings = private_settings(model="test_resnet")
    rows = rows_of(settings)
    model = build_model("test_resnet")
    with pytest.raises(SettingsError, match="resnetv2_50d_gn"):
        train_private_round(
            model, rows, settings, plan_of(rows), key=KEY, seed=0, round_number=1,
            optimiser=make_optimiser(model, settings),
        )  # fmt: skip


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_round_with_a_timm_model_and_the_fused_optimisers(optimiser):
    settings = private_settings(optimiser=optimiser, steps_per_round=2, augmentation=True)
    rows = rows_of(settings)
    torch.manual_seed(0)
    model = build_model(settings.model).to(memory_format=torch.channels_last)
    before = flat(model)
    train_private_round(
        model, rows, settings, plan_of(rows, noise=1.0, steps=2), key=KEY, seed=0, round_number=1,
        optimiser=make_optimiser(model, settings),
    )  # fmt: skip
    assert bool((flat(model) != before).any())
