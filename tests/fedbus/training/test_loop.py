"""The training loop against NumPy: gradients, losses, rates and the order of rows, and what a seed decides."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedbus.errors import RunError
from fedbus.evaluation.predict import predict
from fedbus.models.inputs import normalise
from fedbus.models.state import get_state
from fedbus.seeds import derive_seed
from fedbus.training.augmentation import augment, draw_views
from fedbus.training.optimiser import learning_rate, make_optimiser
from fedbus.training.row_order import RowOrder
from fedbus.training.rows import site_rows
from tests.bare_machine import OTHERS
from tests.models import CPU, PLAIN, conv_model, features, linear_model, sgd, softmax, train, weights_of
from tests.tiny import noise_site, tiny_settings


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_two_steps_of_sgd_are_those_of_numpy_with_and_without_the_proximal_term(mu):
    settings = tiny_settings(**PLAIN, learning_rate=0.05)
    site = noise_site()
    rows, model = site_rows(site, settings, 0, CPU), linear_model()
    start = now = weights_of(model)
    order, losses = RowOrder(rows.owner, len(rows.index), settings.batch_size, 0), []
    for step in range(2):
        picked = order.batch(step).numpy()
        x = features(rows.images[rows.index[picked]][:, 0].numpy())
        probability, truth = softmax(x @ now.T), np.eye(3)[rows.labels[picked]]
        losses.append(-np.log((probability * truth).sum(axis=1)).mean())
        gradient = (probability - truth).T @ x / len(x)
        now = now - 0.05 * (gradient + mu * (now - start))
    loss = train(model, rows, settings, 2, optimiser=sgd(model, settings), proximal_mu=mu)
    np.testing.assert_allclose(weights_of(model), now, atol=1e-6)
    assert loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert np.abs(now - start).max() > 1e-3


def test_a_round_drawn_at_once_is_the_loop_that_draws_step_by_step():
    settings, steps = tiny_settings(label_smoothing=0.0), 7
    site = noise_site()
    rows, model, plain = site_rows(site, settings, 0, CPU), conv_model(), conv_model()
    loss = train(model, rows, settings, steps, round_number=2)
    images = torch.from_numpy(site.pixels).unsqueeze(1)
    order, optimiser = RowOrder(rows.owner, len(rows.index), settings.batch_size, 0), make_optimiser(plain, settings)
    generator = torch.Generator().manual_seed(derive_seed(0, "augment", "north", 2))
    plain.train()
    losses = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, (1 + step / steps) / settings.rounds)
        picked = order.batch(steps + step)
        batch = images[rows.index[picked]].float() / 255
        views = draw_views(1, len(batch), generator)[0]
        each = torch.nn.functional.cross_entropy(plain(normalise(augment(batch, views))), rows.labels[picked])
        optimiser.zero_grad()
        each.backward()
        optimiser.step()
        losses.append(each.item())
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    for key, value in get_state(plain).items():
        torch.testing.assert_close(get_state(model)[key], value, rtol=1e-5, atol=1e-6)


def test_mu_zero_is_plain_training_bit_by_bit_and_a_large_mu_keeps_the_model_near():
    settings = tiny_settings(learning_rate=0.05, optimiser="sgd")
    rows = site_rows(noise_site(), settings, 0, CPU)
    start = get_state(conv_model())
    states = {}
    for name, changes in {"plain": {}, "zero": {"proximal_mu": 0.0}, "near": {"proximal_mu": 5.0}}.items():
        model = conv_model()
        train(model, rows, settings, 6, **changes)
        states[name] = get_state(model)
    assert all(torch.equal(states["plain"][key], states["zero"][key]) for key in start)
    moved = {
        name: sum(float((s[k] - start[k]).norm()) for k in start if "running" not in k) for name, s in states.items()
    }
    assert moved["near"] < 0.8 * moved["plain"]


def test_the_same_seed_gives_the_same_weights_bit_by_bit_and_another_seed_others():
    settings = tiny_settings()
    rows = site_rows(noise_site(), settings, 0, CPU)
    results = []
    for seed in (0, 0, 1):
        model = conv_model()
        loss = train(model, rows, settings, 4, seed=seed)
        results.append((loss, get_state(model)))
    assert results[0][0] == results[1][0] != results[2][0]
    assert all(torch.equal(results[0][1][key], results[1][1][key]) for key in results[0][1])
    assert not torch.equal(results[0][1]["0.weight"], results[2][1]["0.weight"])


def test_two_rounds_are_one_long_round_where_the_rate_is_constant():
    settings = tiny_settings(**PLAIN)
    rows = site_rows(noise_site(), settings, 0, CPU)
    cut, uncut = conv_model(), conv_model()
    optimiser = make_optimiser(cut, settings)
    for number in (1, 2):
        train(cut, rows, settings, 4, round_number=number, optimiser=optimiser)
    train(uncut, rows, settings, 8)
    assert all(torch.equal(value, get_state(uncut)[key]) for key, value in get_state(cut).items())


@pytest.mark.parametrize(("policy", "moves"), [("mask", False), ("plain", True)])
def test_a_class_that_a_site_lacks_is_untouched_under_mask_and_driven_out_under_plain(policy, moves):
    settings = tiny_settings(**PLAIN | {"label_smoothing": 0.1}, missing_classes=policy)
    rows = site_rows(noise_site(counts=(15, 10, 0)), settings, 0, CPU)
    assert rows.present.tolist() == [0, 1]
    model = linear_model()
    start = weights_of(model)
    train(model, rows, settings, 2, optimiser=sgd(model, settings))
    change = weights_of(model) - start
    assert np.abs(change[:2]).min(axis=1).max() > 0
    assert bool(np.abs(change[2]).max() > 0) == moves
    if moves:
        assert change[2, -1] < 0  # its bias falls


def test_rates_follow_warm_up_and_cosine():
    settings = tiny_settings(learning_rate=0.2, warmup=0.1)
    assert learning_rate(settings, 0.0) == pytest.approx(0.2 * 0.01 / 0.11)
    assert learning_rate(settings, 0.05) == pytest.approx(0.2 * 0.06 / 0.11)
    assert learning_rate(settings, 0.1) == pytest.approx(0.2)
    assert learning_rate(settings, 0.1 + 0.9 / 3) == pytest.approx(0.2 * 0.75)
    assert learning_rate(settings, 0.55) == pytest.approx(0.1)
    assert learning_rate(settings, 1.0) == pytest.approx(0.0, abs=1e-12)
    falling = [learning_rate(settings, x) for x in np.linspace(0.1, 1, 50)]
    assert all(a > b for a, b in pairwise(falling))
    constant = tiny_settings(learning_rate=0.2, warmup=0.0, schedule="constant")
    assert {learning_rate(constant, x) for x in (0.0, 0.3, 1.0)} == {0.2}


def test_every_step_of_every_round_has_its_own_learning_rate():
    settings = tiny_settings(rounds=3)
    rows, model = site_rows(noise_site(), settings, 0, CPU), linear_model()
    optimiser, rates = make_optimiser(model, settings), []
    optimiser.register_step_pre_hook(lambda o, *_: rates.append({group["lr"] for group in o.param_groups}))
    for number in (1, 2, 3):
        train(model, rows, settings, 4, round_number=number, optimiser=optimiser)
    assert rates == [{learning_rate(settings, step / 12)} for step in range(12)]


def test_biases_and_norms_do_not_decay():
    model = conv_model()
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimiser(model, tiny_settings(weight_decay=0.3)).param_groups
        for p in group["params"]
    }
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.3, "4.weight": 0.3, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "4.bias": 0.0,
    }  # fmt: skip


def test_a_loss_that_is_not_finite_names_site_round_and_remedy():
    settings = tiny_settings()
    rows, model = site_rows(noise_site("west"), settings, 0, CPU), linear_model()
    with torch.no_grad():
        model[2].weight.fill_(math.nan)
    with pytest.raises(RunError, match=r"west: the loss of round 2") as caught:
        train(model, rows, settings, round_number=2)
    assert "learning-rate" in caught.value.remedy


@pytest.mark.parametrize(("policy", "moves"), [("frozen", False), ("average", True)])
def test_frozen_batch_norm_keeps_its_statistics_and_still_learns(policy, moves):
    settings = tiny_settings(batch_norm=policy)
    model = conv_model()
    before = get_state(model)
    train(model, site_rows(noise_site(), settings, 0, CPU), settings)
    after = get_state(model)
    for key in ("1.running_mean", "1.running_var"):
        assert torch.equal(before[key], after[key]) != moves
    assert not torch.equal(before["1.weight"], after["1.weight"])


def test_progress_is_called_for_every_image():
    settings, reported = tiny_settings(), []
    train(linear_model(), site_rows(noise_site(), settings, 0, CPU), settings, 5, progress=reported.append)
    assert reported == [4] * 5


def test_training_learns_a_separable_problem():
    settings = tiny_settings(learning_rate=0.01, rounds=1)
    site, model = noise_site(counts=(30, 30, 30)), linear_model()
    rows = site_rows(site, settings, 0, CPU)
    train(model, rows, settings, 120)
    test = site.splits["test"]
    assert (predict(model, site.pixels[test], settings).argmax(axis=1) == site.labels[test]).mean() > 0.9


TRAIN_ONLY = """
import sys
for name in {others}: sys.modules[name] = None  # importing it fails
from types import SimpleNamespace
import numpy as np
import torch
from fedbus.models.build import place_model
from fedbus.training.balance import Balanced
from fedbus.training.rows import load_rows
from fedbus.training.optimiser import make_optimiser
from fedbus.evaluation.predict import predict
from fedbus.training.loop import train_round
settings = SimpleNamespace(**{settings})
pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
balanced = Balanced(np.arange(8), np.arange(8) % 3, pixels[:0], np.ones(3, dtype=np.float32))
cpu = torch.device("cpu")
model, rows = place_model("test_resnet", cpu), load_rows("noise", pixels, balanced, 8, cpu)
before = [p.detach().clone() for p in model.parameters()]
loss = train_round(model, rows, settings, seed=0, round_number=1, steps=1, optimiser=make_optimiser(model, settings))
assert 0 < loss < 10 and any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
assert predict(model, pixels, settings).shape == (8, 3)
print("trained")
"""


def test_training_needs_nothing_but_pytorch_timm_and_numpy():
    settings = {key: value for key, value in tiny_settings().model_dump().items() if key not in ("cache", "sites")}
    code = TRAIN_ONLY.format(others=OTHERS, settings=settings)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "trained", done.stderr
