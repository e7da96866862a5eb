"""Which rows a step trains on: training rows only, every one in each pass, also after an interruption."""

import dataclasses
import warnings
from collections import Counter

import numpy as np
import pytest
import torch

from fedbus.models.state import get_state
from fedbus.training.balance import balance
from fedbus.training.row_order import RowOrder
from fedbus.training.rows import load_rows, site_rows
from tests.models import CPU, PLAIN, conv_model, train
from tests.tiny import noise_site, tiny_settings


@pytest.mark.parametrize(("count", "batch"), [(30, 4), (30, 7), (5, 32), (8, 8)])
def test_each_pass_covers_every_balanced_row_once_also_across_rounds(count, batch):
    settings = tiny_settings(**PLAIN, batch_size=batch)
    rows = site_rows(noise_site(counts=(count * 5 // 3, 0, 0)), settings, 0, CPU)
    assert len(rows.index) == count
    order = RowOrder(rows.owner, len(rows.index), settings.batch_size, 0)
    batches = [order.batch(step).tolist() for step in range(3 * count)]
    assert {len(b) for b in batches} == {batch}
    stream = [row for b in batches for row in b]
    passes = [stream[start : start + count] for start in range(0, len(stream) - count + 1, count)]
    assert len(passes) >= 3
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert passes[0] != passes[1]


def test_the_order_after_an_interruption_is_that_of_an_uninterrupted_run():
    settings = tiny_settings()
    rows = site_rows(noise_site(), settings, 0, CPU)
    uncut = RowOrder(rows.owner, len(rows.index), settings.batch_size, 3)
    expected = [uncut.batch(step).tolist() for step in range(40)]
    resumed = RowOrder(rows.owner, len(rows.index), settings.batch_size, 3)
    assert [resumed.batch(step).tolist() for step in range(23, 40)] == expected[23:]
    assert [
        RowOrder(rows.owner, len(rows.index), settings.batch_size, 4).batch(step).tolist() for step in range(40)
    ] != expected


def test_sites_shuffle_independently():
    settings = tiny_settings()
    north, south = (site_rows(noise_site(name), settings, 0, CPU) for name in ("north", "south"))
    assert (
        RowOrder(north.owner, len(north.index), settings.batch_size, 0).batch(0).tolist()
        != RowOrder(south.owner, len(south.index), settings.batch_size, 0).batch(0).tolist()
    )


@pytest.mark.parametrize("sampler", ["ros", "rus", "none", "class-weights", "smote"])
def test_only_training_rows_are_trained_on_with_their_own_labels(sampler):
    site, settings = noise_site(counts=(40, 20, 15)), tiny_settings(sampler=sampler)
    rows = site_rows(site, settings, 0, CPU)
    train_rows = site.splits["train"]
    allowed = {(site.pixels[i].tobytes(), int(site.labels[i])) for i in train_rows}
    held_out = {site.pixels[i].tobytes() for split in ("validation", "test") for i in site.splits[split]}
    balanced = balance(site.pixels, site.labels, train_rows, sampler, 0)
    real = len(rows.images) - len(balanced.synthetic)
    seen = [
        (rows.images[place, 0].numpy().tobytes(), int(label))
        for place, label in zip(rows.index, rows.labels, strict=True)
        if place < real
    ]
    assert set(seen) <= allowed
    assert not {image for image, _ in seen} & held_out
    assert rows.distinct == len(train_rows)
    if sampler in ("ros", "smote"):
        assert set(Counter(rows.labels.tolist()).values()) == {24}


def test_rows_on_the_device_are_the_balanced_rows_and_then_the_synthetic_ones():
    site = noise_site(counts=(40, 20, 15))
    balanced = balance(site.pixels, site.labels, site.splits["train"], "smote", 0)
    rows = load_rows("north", site.pixels, balanced, 45, CPU)
    items = np.concatenate([site.pixels[balanced.rows], balanced.synthetic])
    np.testing.assert_array_equal(rows.images[rows.index][:, 0].numpy(), items)
    np.testing.assert_array_equal(rows.labels.numpy(), balanced.labels)
    assert rows.present.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (2, 14), (0.5, 4), (0.01, 1)])
def test_steps_per_round_are_passes_over_the_balanced_rows(epochs, steps):
    settings = tiny_settings(local_epochs=epochs)  # 27 balanced rows, batches of 4
    assert site_rows(noise_site(), settings, 0, CPU).steps_per_round(settings) == steps


def test_a_cpu_reads_the_memory_map_itself_and_trains_as_from_memory(tmp_path):
    site, settings = noise_site(), tiny_settings()
    np.save(tmp_path / "pixels.npy", site.pixels)
    content = (tmp_path / "pixels.npy").read_bytes()
    mapped = dataclasses.replace(site, pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's, that the map is read-only
        rows = site_rows(mapped, settings, 0, CPU)
    assert np.shares_memory(rows.images.numpy(), mapped.pixels)
    states = []
    for each in (rows, site_rows(site, settings, 0, CPU)):
        model = conv_model()
        loss = train(model, each, settings, 5)
        states.append((loss, get_state(model)))
    assert states[0][0] == states[1][0]
    assert all(torch.equal(value, states[1][1][key]) for key, value in states[0][1].items())
    assert (tmp_path / "pixels.npy").read_bytes() == content


def test_another_device_gets_each_distinct_image_once():
    site = noise_site(counts=(40, 20, 15))
    balanced = balance(site.pixels, site.labels, site.splits["train"], "ros", 0)
    rows = load_rows("north", site.pixels, balanced, 45, torch.device("meta"))
    assert rows.images.shape == (45, 1, 32, 32)
    assert len(balanced.rows) == len(rows.index) == 72
