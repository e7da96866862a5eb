"""Golden figures of a tiny training: a change of seeds, splits, balancing or arithmetic does not go unnoticed."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fedbus.classes import CLASSES
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.sites.split import assign_splits
from fedbus.training.balance import balance
from fedbus.training.row_order import RowOrder
from fedbus.training.rows import site_rows
from simulations.local_training import LocalTraining
from tests.tiny import noise_site, tiny_settings

TOLERANCE = 1e-4
"""Processors round float32 sums in different orders, which is like a relative change of the weights by about 1e-6. Here
a change of the start weights by 3e-5 moves the figures by 2e-5, as running statistics are frozen and SGD takes small
steps: with batch statistics or AdamW the same change moves them by more than 1e-3."""

HISTORY = {
    "train_loss": [1.0570109, 0.9898057, 0.9720068],
    "loss": [1.0093566, 0.9469614, 0.9297070],
    "accuracy": [0.6666667, 0.6666667, 0.6666667],
    "macro_f1": [0.5833333, 0.5833333, 0.5833333],
}


def digest(numbers: object) -> str:
    """16 hex digits of the integers, the same on every platform."""
    return hashlib.sha256(np.asarray(numbers).astype("<i8").tobytes()).hexdigest()[:16]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_tiny_training_has_the_recorded_history(tmp_path, one_thread):
    settings = tiny_settings(optimiser="sgd", batch_size=16, batch_norm="frozen")
    site = noise_site(counts=(30, 20, 10))
    rows = site_rows(site, settings, 0, torch.device("cpu"))
    LocalTraining(settings, 0, rows, [site], 3, start_state(settings.model, "none", 1)).run(ArmFolder(tmp_path))
    history = ArmFolder(tmp_path).read_history()
    found = {"train_loss": [line["train_loss"] for line in history]}
    found |= {name: [line["validation"][name] for line in history] for name in ("loss", "accuracy", "macro_f1")}
    assert found == {name: pytest.approx(values, abs=TOLERANCE) for name, values in HISTORY.items()}
    assert ArmFolder(tmp_path).read_facts()["best_round"] == 3


def test_the_split_of_a_site_is_the_recorded_one():
    labels = [CLASSES[i % 7 % 3] for i in range(210)]
    groups = [f"p{i // 7}-{i % 7 % 3}" for i in range(210)]
    splits = assign_splits("north", labels, groups, folds=5, fold=1, validation_fraction=0.15, seed=3)
    assert digest([("train", "validation", "test").index(split) for split in splits]) == "0d1f98414ff76659"


@pytest.mark.parametrize(("sampler", "expected"), [("ros", "9775223f576fa28c"), ("rus", "fc689b7fe0f10dfd")])
def test_balanced_rows_are_the_recorded_ones(sampler, expected):
    site = noise_site(counts=(30, 20, 10))
    balanced = balance(site.pixels, site.labels, site.splits["train"], sampler, 2**40 + 1)
    assert digest([*balanced.rows, *balanced.labels]) == expected


def test_the_order_of_rows_is_the_recorded_one():
    order = RowOrder("north", 27, 4, 5)
    assert digest(torch.cat([order.batch(step) for step in range(40)])) == "5d67a094ad13fa49"
