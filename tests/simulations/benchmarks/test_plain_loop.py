"""The plain loop starts where ours does, balances as ours does, steps as PyTorch does, and reads the same images."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedbus.errors import SettingsError
from fedbus.evaluation.predict import predict
from fedbus.models.inputs import normalise
from fedbus.models.state import get_state
from fedbus.training.balance import balance
from simulations.benchmarks.image_folders import write_image_folders
from simulations.benchmarks.plain_loop import (
    accuracy,
    balancing_sampler,
    load_model,
    open_image_folder,
    scoring_batches,
    train_plain,
    train_steps,
)


@pytest.fixture(scope="module")
def folders(tiny_case, tmp_path_factory):
    return write_image_folders(tiny_case, tmp_path_factory.mktemp("trees") / "new")


def with_settings(case, **changes):
    return type(case)(case.settings.model_copy(update=changes), case.out, case.sites, case.start)


def batches(count):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 4, 3, 32, 32, generator=generator)
    return list(zip(images, torch.randint(0, 3, (count, 4), generator=generator), strict=True))


def test_it_starts_from_the_weights_of_the_case(tiny_case, folders):
    still = with_settings(tiny_case, learning_rate=1e-12)
    run = train_plain(folders["north"], still, steps=1, seed=0)
    parameters = dict(run.model.named_parameters())
    assert parameters.keys() <= tiny_case.start.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(value.detach(), tiny_case.start[name], rtol=0, atol=1e-9)


def test_its_steps_are_adamw_with_the_smoothing_and_schedule_of_the_settings(tiny_case):
    settings = tiny_case.settings.model_copy(update={"learning_rate": 0.02, "weight_decay": 0.3, "warmup": 0.25})
    given, steps = batches(4), 4
    run = train_steps(load_model(settings, tiny_case.start), given, settings, steps)
    model = load_model(settings, tiny_case.start).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.3)
    expected = []
    for step, (images, labels) in enumerate(given):
        done = step / steps
        rising = (done + 0.01) / 0.26
        optimiser.param_groups[0]["lr"] = 0.02 * (
            rising if done < 0.25 else 0.5 * (1 + math.cos(math.pi * (done - 0.25) / 0.75))
        )
        scores = model(images).log_softmax(dim=1)
        target = 0.9 * nn.functional.one_hot(labels, 3) + 0.1 / 3
        loss = -(target * scores).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    assert run.losses == pytest.approx(expected, rel=1e-4)
    for name, value in get_state(model).items():
        torch.testing.assert_close(get_state(run.model)[name], value, rtol=1e-3, atol=1e-4)


def test_rounds_follow_consecutive_parts_of_the_schedule(tiny_case, monkeypatch):
    positions = []
    monkeypatch.setattr(
        "simulations.benchmarks.plain_loop.learning_rate", lambda settings, done: positions.append(done) or 1e-3
    )
    for number in (1, 2):
        train_steps(load_model(tiny_case.settings, tiny_case.start), batches(2), tiny_case.settings, 4, number, 2)
    assert positions == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8]


def test_steps_before_the_measurement_do_not_count(tiny_case):
    model = load_model(tiny_case.settings, tiny_case.start)
    run = train_steps(model, batches(3), tiny_case.settings, 5, warmup_steps=2)
    assert (len(run.losses), run.images) == (5, 3 * 4)
    assert run.seconds > 0


@pytest.mark.parametrize("name", ["north", "south", "pooled"])
def test_it_draws_as_many_rows_as_over_sampling_has(tiny_case, folders, name):
    labels = np.array(open_image_folder(folders[name], "train").targets)
    ours = balance(np.empty((len(labels), 1, 1), np.uint8), labels, np.arange(len(labels)), "ros", 0)
    assert balancing_sampler(labels.tolist(), 0).num_samples == len(ours.rows)


def test_every_present_class_is_drawn_equally_often():
    labels = [0] * 60 + [2] * 6
    sampler = balancing_sampler(labels, seed=3)
    drawn = np.array([labels[i] for _ in range(50) for i in sampler])
    assert len(drawn) == 50 * 120
    assert np.count_nonzero(drawn == 1) == 0
    assert abs(np.mean(drawn == 2) - 0.5) < 5 * 0.5 / math.sqrt(len(drawn))


def test_the_seed_decides_the_draws():
    labels = [0, 0, 0, 0, 1]
    assert list(balancing_sampler(labels, 1)) == list(balancing_sampler(labels, 1))
    assert list(balancing_sampler(labels, 1)) != list(balancing_sampler(labels, 2))


def test_it_scores_the_images_that_ours_does(tiny_case, folders):
    settings, site = tiny_case.settings, tiny_case.sites["north"]
    seen = torch.cat([images for images, _ in scoring_batches(folders["north"], "test", settings)])
    labels = torch.tensor(open_image_folder(folders["north"], "test").targets)
    order = np.concatenate([[r for r in site.splits["test"] if site.labels[r] == c] for c in range(3)]).astype(int)
    ours = normalise(torch.from_numpy(site.pixels[order]).unsqueeze(1).float() / 255)
    assert labels.tolist() == site.labels[order].tolist()
    torch.testing.assert_close(seen, ours.contiguous(), rtol=0, atol=1e-5)

    model = load_model(settings, tiny_case.start)
    right = predict(model, site.pixels[order], settings).argmax(axis=1) == site.labels[order]
    assert accuracy(model, folders["north"], tiny_case) == pytest.approx(right.mean())


def test_rows_that_do_not_fill_a_batch_are_refused(tiny_case, folders):
    with pytest.raises(SettingsError, match="fewer than a batch"):
        train_plain(folders["north"], with_settings(tiny_case, batch_size=512), steps=1, seed=0)
