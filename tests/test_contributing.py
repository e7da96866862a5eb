"""The worked examples of CONTRIBUTING.md run as they are written."""

import re
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from fedbus.datasets import registry as datasets
from fedbus.evaluation import measured, metrics
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.predictions import Predictions
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.training import balance as balancing
from fedbus.training.losses import make_criterion
from fedbus.training.missing_classes import registry as policies
from fedbus.training.rows import site_rows
from server.rounds import strategies
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from tests.archives import make_image
from tests.grid import LocalGrid
from tests.models import CPU, linear_model
from tests.server.rounds.federation import register
from tests.tiny import noise_site, tiny_settings

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> types.ModuleType:
    """Return the block of that name, as a module."""
    (code,) = re.findall(rf"```python {name}\n(.*?)```", PAGE, re.DOTALL)
    module = types.ModuleType(name)
    exec(compile(code, f"CONTRIBUTING.md, {name}", "exec"), module.__dict__)
    return module


def test_a_reader(tmp_path, monkeypatch):
    for seed, name in enumerate(["b1", "b2", "m1", "n1", "readme"]):
        make_image(np.random.default_rng(seed)).save(tmp_path / f"{name}.png")
    reader = datasets._reader("first-letter", example("reader"))
    monkeypatch.setitem(datasets.READERS, "first-letter", reader)
    assert datasets.read_dataset("first-letter", tmp_path, "north").counts == {"benign": 2, "malignant": 1, "normal": 1}


def test_a_sampler(monkeypatch):
    monkeypatch.setitem(balancing.ROW_SAMPLERS, "half", example("sampler").over_sample_to_half)
    labels = np.repeat([0, 1, 2], [20, 12, 3])
    found = balancing.balance(np.zeros((35, 2, 2), np.uint8), labels, np.arange(35), "half", seed=0)
    assert np.bincount(found.labels).tolist() == [20, 12, 10]
    assert (labels[found.rows] == found.labels).all()


def test_a_missing_class_policy(monkeypatch):
    monkeypatch.setitem(policies.POLICIES, "damped", example("policy").Damped)
    settings = tiny_settings(missing_classes="plain", sampler="none")
    rows, model = site_rows(noise_site(counts=(15, 10, 0)), settings, 0, CPU), linear_model()
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 0, 0])
    plain, damped = (
        make_criterion(model, rows, settings.model_copy(update={"missing_classes": name}))(logits, labels, logits)
        for name in ("plain", "damped")
    )
    torch.testing.assert_close(damped, plain / 2)


def test_a_strategy(two_site_settings, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(strategies.STRATEGY_CLASSES, "halfstep", example("strategy").HalfStep)
    settings = two_site_settings.model_copy(update={"rounds": 1})
    start, final = start_state(settings.model, "none", 7), {}
    for arm in ("fedavg", "halfstep"):
        grid, folder = LocalGrid(tiny_folder, list(settings.sites)), ArmFolder(tmp_path / arm)
        run_rounds(grid, register(grid, settings), Job(settings, arm, 7, start, folder))
        final[arm] = folder.load_weights("final")
    for name, value in final["halfstep"].items():
        torch.testing.assert_close(value, (start[name] + final["fedavg"][name]) / 2)


def test_a_metric(monkeypatch):
    monkeypatch.setitem(metrics.CONFUSION_METRICS, "balanced_accuracy", example("metric").balanced_accuracy)
    monkeypatch.setattr(measured, "METRICS", (*measured.METRICS, "balanced_accuracy"))
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1, 1], 60)
    names = np.array([str(row) for row in range(60)])
    run = Predictions(random.integers(0, 3, 60), probabilities, names, np.full(60, "north"), names)
    found = evaluate([run], draws=50, seed=0)["balanced_accuracy"]
    assert found["value"] == pytest.approx(balanced_accuracy_score(run.labels, probabilities.argmax(axis=1)))
    assert found["low"] < found["value"] < found["high"]
