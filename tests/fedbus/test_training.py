"""The training loop against NumPy: gradients, losses, rates and the order of rows, and what a seed decides."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from fedbus.errors import RunError
from fedbus.fitting import site_rows
from fedbus.models import get_state
from fedbus.sampling import balance
from fedbus.study import Study
from fedbus.training import (
    MEAN,
    STD,
    TrainingRows,
    _add_proximal_gradient,
    _Criterion,
    _RowOrder,
    learning_rate,
    load_rows,
    make_optimiser,
    normalise,
    predict,
    train_round,
)
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")
PLAIN = {"augmentation": False, "schedule": "constant", "warmup": 0.0, "label_smoothing": 0.0, "sampler": "none"}


def linear_model(seed: int = 0) -> nn.Sequential:
    """Multinomial logistic regression on 4 x 4 cells, whose gradient fits in one line of NumPy."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 3))


def conv_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def sgd(model: nn.Module, study: Study) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=study.learning_rate)


def train(model: nn.Module, rows: TrainingRows, study: Study, steps: int = 3, **changes: object) -> float:
    settings = {"seed": 0, "round_number": 1, "steps": steps, "optimiser": make_optimiser(model, study)} | changes
    return train_round(model, rows, study, **settings)


def features(images: np.ndarray) -> np.ndarray:
    """What `linear_model` sees of uint8 [N, 32, 32]: three normalised channels of 4 x 4 means, and 1 for the bias."""
    cells = (images / 255).reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1, 16)
    channels = [(cells - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return np.concatenate([*channels, np.ones((len(images), 1))], axis=1)


def weights_of(model: nn.Sequential) -> np.ndarray:
    linear = model[2]
    return torch.cat([linear.weight, linear.bias[:, None]], dim=1).detach().double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_two_steps_of_sgd_are_those_of_numpy_with_and_without_the_proximal_term(mu):
    study = tiny_settings(**PLAIN, learning_rate=0.05)
    site = noise_site()
    rows, model = site_rows(site, study, 0, CPU), linear_model()
    start = now = weights_of(model)
    order, losses = _RowOrder(rows, study, 0), []
    for step in range(2):
        picked = order.batch(step).numpy()
        x = features(rows.images[rows.index[picked]][:, 0].numpy())
        probability, truth = softmax(x @ now.T), np.eye(3)[rows.labels[picked]]
        losses.append(-np.log((probability * truth).sum(axis=1)).mean())
        gradient = (probability - truth).T @ x / len(x)
        now = now - 0.05 * (gradient + mu * (now - start))
    loss = train(model, rows, study, 2, optimiser=sgd(model, study), proximal_mu=mu)
    np.testing.assert_allclose(weights_of(model), now, atol=1e-6)
    assert loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert np.abs(now - start).max() > 1e-3


def test_the_proximal_term_pulls_a_drifted_model_back():
    model = linear_model()
    anchors = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.rand_like(p))
    gradients = [torch.rand_like(p) for p in model.parameters()]
    expected = []
    for p, anchor, gradient in zip(model.parameters(), anchors, gradients, strict=True):
        p.grad = gradient.clone()
        expected.append(p.detach() - 0.1 * (gradient + 0.3 * (p.detach() - anchor)))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    _add_proximal_gradient(list(model.parameters()), anchors, 0.3)
    optimiser.step()
    assert all(torch.allclose(p, e, atol=1e-7) for p, e in zip(model.parameters(), expected, strict=True))


def test_mu_zero_is_plain_training_bit_by_bit_and_a_large_mu_keeps_the_model_near():
    study = tiny_settings(learning_rate=0.05, optimiser="sgd")
    rows = site_rows(noise_site(), study, 0, CPU)
    start = get_state(conv_model())
    states = {}
    for name, changes in {"plain": {}, "zero": {"proximal_mu": 0.0}, "near": {"proximal_mu": 5.0}}.items():
        model = conv_model()
        train(model, rows, study, 6, **changes)
        states[name] = get_state(model)
    assert all(torch.equal(states["plain"][key], states["zero"][key]) for key in start)
    moved = {
        name: sum(float((s[k] - start[k]).norm()) for k in start if "running" not in k) for name, s in states.items()
    }
    assert moved["near"] < 0.8 * moved["plain"]


def test_the_same_seed_gives_the_same_weights_bit_by_bit_and_another_seed_others():
    study = tiny_settings()
    rows = site_rows(noise_site(), study, 0, CPU)
    results = []
    for seed in (0, 0, 1):
        model = conv_model()
        loss = train(model, rows, study, 4, seed=seed)
        results.append((loss, get_state(model)))
    assert results[0][0] == results[1][0] != results[2][0]
    assert all(torch.equal(results[0][1][key], results[1][1][key]) for key in results[0][1])
    assert not torch.equal(results[0][1]["0.weight"], results[2][1]["0.weight"])


def test_two_rounds_are_one_long_round_where_the_rate_is_constant():
    study = tiny_settings(**PLAIN)
    rows = site_rows(noise_site(), study, 0, CPU)
    cut, uncut = conv_model(), conv_model()
    optimiser = make_optimiser(cut, study)
    for number in (1, 2):
        train(cut, rows, study, 4, round_number=number, optimiser=optimiser)
    train(uncut, rows, study, 8)
    assert all(torch.equal(value, get_state(uncut)[key]) for key, value in get_state(cut).items())


@pytest.mark.parametrize(("policy", "moves"), [("mask", False), ("plain", True)])
def test_a_class_that_a_site_lacks_is_untouched_under_mask_and_driven_out_under_plain(policy, moves):
    study = tiny_settings(**PLAIN | {"label_smoothing": 0.1}, missing_classes=policy)
    rows = site_rows(noise_site(counts=(15, 10, 0)), study, 0, CPU)
    assert rows.present.tolist() == [0, 1]
    model = linear_model()
    start = weights_of(model)
    train(model, rows, study, 2, optimiser=sgd(model, study))
    change = weights_of(model) - start
    assert np.abs(change[:2]).min(axis=1).max() > 0
    assert bool(np.abs(change[2]).max() > 0) == moves
    if moves:
        assert change[2, -1] < 0  # its bias falls


@pytest.mark.parametrize("policy", ["mask", "plain"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
@pytest.mark.parametrize("counts", [(15, 10, 5), (15, 0, 5)])
def test_the_loss_is_weighted_smoothed_cross_entropy_over_the_known_classes(policy, smoothing, sampler, counts):
    study = tiny_settings(missing_classes=policy, label_smoothing=smoothing, sampler=sampler)
    rows = site_rows(noise_site(counts=counts), study, 0, CPU)
    logits = 3 * np.random.default_rng(0).standard_normal((len(rows.labels), 3))
    labels, weights = rows.labels.numpy(), rows.class_weights.double().numpy()
    known = [i for i in range(3) if counts[i]] if policy == "mask" else [0, 1, 2]
    log_p = np.full_like(logits, np.nan)
    log_p[:, known] = np.log(softmax(logits[:, known]))
    total = 0.0
    for row, label in enumerate(labels):
        total += (1 - smoothing) * weights[label] * -log_p[row, label]
        total += smoothing / len(known) * sum(weights[c] * -log_p[row, c] for c in known)
    expected = total / weights[labels].sum()
    criterion = _Criterion(rows, study)
    assert float(criterion(torch.tensor(logits, dtype=torch.float32), rows.labels)) == pytest.approx(expected, rel=1e-5)


def test_rates_follow_warm_up_and_cosine():
    study = tiny_settings(learning_rate=0.2, warmup=0.1)
    assert learning_rate(study, 0.0) == pytest.approx(0.2 * 0.01 / 0.11)
    assert learning_rate(study, 0.05) == pytest.approx(0.2 * 0.06 / 0.11)
    assert learning_rate(study, 0.1) == pytest.approx(0.2)
    assert learning_rate(study, 0.1 + 0.9 / 3) == pytest.approx(0.2 * 0.75)
    assert learning_rate(study, 0.55) == pytest.approx(0.1)
    assert learning_rate(study, 1.0) == pytest.approx(0.0, abs=1e-12)
    falling = [learning_rate(study, x) for x in np.linspace(0.1, 1, 50)]
    assert all(a > b for a, b in pairwise(falling))
    constant = tiny_settings(learning_rate=0.2, warmup=0.0, schedule="constant")
    assert {learning_rate(constant, x) for x in (0.0, 0.3, 1.0)} == {0.2}


def test_every_step_of_every_round_takes_its_own_rate():
    study = tiny_settings(rounds=3)
    rows, model = site_rows(noise_site(), study, 0, CPU), linear_model()
    optimiser, rates = make_optimiser(model, study), []
    optimiser.register_step_pre_hook(lambda o, *_: rates.append({group["lr"] for group in o.param_groups}))
    for number in (1, 2, 3):
        train(model, rows, study, 4, round_number=number, optimiser=optimiser)
    assert rates == [{learning_rate(study, step / 12)} for step in range(12)]


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


@pytest.mark.parametrize(("count", "batch"), [(30, 4), (30, 7), (5, 32), (8, 8)])
def test_each_pass_covers_every_balanced_row_once_also_across_rounds(count, batch):
    study = tiny_settings(**PLAIN, batch_size=batch)
    rows = site_rows(noise_site(counts=(count * 5 // 3, 0, 0)), study, 0, CPU)
    assert len(rows.index) == count
    order = _RowOrder(rows, study, 0)
    batches = [order.batch(step).tolist() for step in range(3 * count)]
    assert {len(b) for b in batches} == {batch}
    stream = [row for b in batches for row in b]
    passes = [stream[start : start + count] for start in range(0, len(stream) - count + 1, count)]
    assert len(passes) >= 3
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert passes[0] != passes[1]


def test_the_order_after_a_cut_is_that_of_an_uncut_run():
    study = tiny_settings()
    rows = site_rows(noise_site(), study, 0, CPU)
    uncut = _RowOrder(rows, study, 3)
    expected = [uncut.batch(step).tolist() for step in range(40)]
    resumed = _RowOrder(rows, study, 3)
    assert [resumed.batch(step).tolist() for step in range(23, 40)] == expected[23:]
    assert [_RowOrder(rows, study, 4).batch(step).tolist() for step in range(40)] != expected


def test_sites_shuffle_independently():
    study = tiny_settings()
    north, south = (site_rows(noise_site(name), study, 0, CPU) for name in ("north", "south"))
    assert _RowOrder(north, study, 0).batch(0).tolist() != _RowOrder(south, study, 0).batch(0).tolist()


@pytest.mark.parametrize("sampler", ["ros", "rus", "none", "class-weights", "smote"])
def test_only_training_rows_are_trained_on_with_their_own_labels(sampler):
    site, study = noise_site(counts=(40, 20, 15)), tiny_settings(sampler=sampler)
    rows = site_rows(site, study, 0, CPU)
    train_rows = site.parts["train"]
    allowed = {(site.pixels[i].tobytes(), int(site.labels[i])) for i in train_rows}
    held_out = {site.pixels[i].tobytes() for part in ("validation", "test") for i in site.parts[part]}
    balanced = balance(site.pixels, site.labels, train_rows, sampler, 0)
    real = len(rows.images) - len(balanced.synthetic)
    seen = [
        (rows.images[place, 0].numpy().tobytes(), int(label))
        for place, label in zip(rows.index, rows.labels, strict=True)
        if place < real
    ]
    assert set(seen) <= allowed
    assert not {picture for picture, _ in seen} & held_out
    assert len(rows.images[:real].unique(dim=0)) == real <= len(train_rows)
    assert rows.distinct == len(train_rows)
    if sampler in ("ros", "smote"):
        assert set(Counter(rows.labels.tolist()).values()) == {24}


def test_rows_on_the_device_are_the_balanced_rows_and_then_the_synthetic_ones():
    site = noise_site(counts=(40, 20, 15))
    balanced = balance(site.pixels, site.labels, site.parts["train"], "smote", 0)
    rows = load_rows("north", site.pixels, balanced, 45, CPU)
    items = np.concatenate([site.pixels[balanced.rows], balanced.synthetic])
    np.testing.assert_array_equal(rows.images[rows.index][:, 0].numpy(), items)
    np.testing.assert_array_equal(rows.labels.numpy(), balanced.labels)
    assert rows.present.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (2, 14), (0.5, 4), (0.01, 1)])
def test_steps_a_round_are_passes_over_the_balanced_rows(epochs, steps):
    study = tiny_settings(local_epochs=epochs)  # 27 balanced rows, batches of 4
    assert site_rows(noise_site(), study, 0, CPU).steps_per_round(study) == steps


def test_a_loss_that_is_not_finite_names_site_round_and_remedy():
    study = tiny_settings()
    rows, model = site_rows(noise_site("west"), study, 0, CPU), linear_model()
    with torch.no_grad():
        model[2].weight.fill_(math.nan)
    with pytest.raises(RunError, match=r"west: the loss of round 2") as caught:
        train(model, rows, study, round_number=2)
    assert "learning-rate" in caught.value.remedy


@pytest.mark.parametrize(("policy", "moves"), [("frozen", False), ("average", True)])
def test_frozen_batch_norm_keeps_its_statistics_and_still_learns(policy, moves):
    study = tiny_settings(batch_norm=policy)
    model = conv_model()
    before = get_state(model)
    train(model, site_rows(noise_site(), study, 0, CPU), study)
    after = get_state(model)
    for key in ("1.running_mean", "1.running_var"):
        assert torch.equal(before[key], after[key]) != moves
    assert not torch.equal(before["1.weight"], after["1.weight"])


def test_progress_is_told_of_every_image():
    study, told = tiny_settings(), []
    train(linear_model(), site_rows(noise_site(), study, 0, CPU), study, 5, progress=told.append)
    assert told == [4] * 5


def test_training_learns_what_can_be_learnt():
    study = tiny_settings(learning_rate=0.01, rounds=1)
    site, model = noise_site(counts=(30, 30, 30)), linear_model()
    rows = site_rows(site, study, 0, CPU)
    train(model, rows, study, 120)
    test = site.parts["test"]
    assert (predict(model, site.pixels[test], study).argmax(axis=1) == site.labels[test]).mean() > 0.9


def test_pictures_are_normalised_as_imagenet_was():
    batch = torch.rand(2, 1, 5, 4)
    normal = normalise(batch)
    assert normal.is_contiguous(memory_format=torch.channels_last)
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        np.testing.assert_allclose(normal[:, channel].numpy(), (batch[:, 0].numpy() - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 64, 150])
def test_predictions_are_the_softmax_of_the_model(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32), dtype=np.uint8)
    images.setflags(write=False)
    model = linear_model()
    told: list[int] = []
    probabilities = predict(model, images, tiny_settings(), progress=told.append)
    np.testing.assert_allclose(probabilities, softmax(features(images) @ weights_of(model).T), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert probabilities.dtype == np.float64
    assert sum(told) == count


def test_a_class_that_was_not_trained_on_gets_probability_zero():
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32), dtype=np.uint8)
    model = linear_model()
    probabilities = predict(model, images, tiny_settings(), torch.tensor([0, 2]))
    logits = features(images) @ weights_of(model).T
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities[:, [0, 2]], softmax(logits[:, [0, 2]]), atol=1e-6)


def test_predicting_changes_nothing_and_does_not_depend_on_the_company():
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)
    model = conv_model().train()
    before = get_state(model)
    together = predict(model, images, tiny_settings())
    np.testing.assert_allclose(together[3:4], predict(model, images[3:4], tiny_settings()), atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in get_state(model).items())
    assert predict(model, images[:0], tiny_settings()).shape == (0, 3)


def test_bfloat16_stays_near_float32():
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)
    one, other = (predict(linear_model(), images, tiny_settings(precision=p)) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(one - other).max() < 0.02
