"""Every verdict on a site's machine, and the training probe behind them."""

import shutil
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import clients.check.machine as machine
from clients.check import training_probe
from clients.check.machine import check_device, check_disk, check_training, format_bytes, format_seconds
from clients.check.training_probe import ProbeResult, _PeakMemory, estimate_memory, free_memory, model_bytes, run_probe
from fedbus.models.build import place_model
from tests.models import CPU
from tests.site_folders import make_site
from tests.tiny import tiny_settings

SETTINGS = tiny_settings()
GB = 10**9
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return make_site(tmp_path_factory.mktemp("site"))


def with_device(site, device):
    return replace(site, settings=site.settings.model_copy(update={"device": device}))


NEED = 100 * (32 * 32 + 64) + 2 * 3 * 1_000_000
"""Of 100 images of 32 pixels with two fingerprints of 32 bytes, and of a 1 MB model of two arms and three seeds."""


@pytest.mark.parametrize(
    ("free", "verdict"), [(NEED - 1, "fail"), (NEED, "warn"), (3 * NEED - 1, "warn"), (3 * NEED, "pass")]
)
def test_disk(site, monkeypatch, free, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    settings = tiny_settings(arms="local,fedavg,fedprox", seeds=(0, 1, 2))
    found = check_disk(site, 100, settings, 1_000_000)
    assert found.verdict == verdict
    assert bool(found.remedy) == (verdict != "pass")
    assert "needs 6 MB" in found.found


def test_a_requested_cpu(site):
    device, found = check_device(with_device(site, "cpu"), SETTINGS)
    assert device == CPU
    assert (found.verdict, found.found.endswith("float32")) == ("pass", True)


def test_a_gpu_that_pytorch_does_not_see(site, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    device, found = check_device(site, SETTINGS)
    assert (device, found.verdict) == (CPU, "warn")
    device, found = check_device(with_device(site, "cuda"), SETTINGS)
    assert (device, found.verdict) == (None, "fail")
    assert [f.verdict for f in check_training(SETTINGS, None, 7)] == ["warn", "warn", "warn"]


def test_a_gpu_is_named(site, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X100")
    device, found = check_device(site, SETTINGS)
    assert device == torch.device("cuda")
    assert (found.verdict, found.found) == ("pass", "NVIDIA X100, float32")


def test_the_training_probe_trains():
    advanced = []
    memory, step, full_round = check_training(SETTINGS, CPU, 7, advanced.append)
    assert (memory.verdict, step.verdict, full_round.verdict) == ("pass", "pass", "pass")
    assert step.found.endswith("s: test_resnet, 32 pixels, batches of 4")
    assert "for 7 steps; the hub waits 60 min" in full_round.found
    assert advanced == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("needed", "verdict"), [(7.5 * GB, "pass"), (7.6 * GB, "warn"), (10 * GB, "warn"), (10.1 * GB, "fail")]
)
def test_memory(monkeypatch, needed, verdict):
    monkeypatch.setattr(machine, "run_probe", lambda *args: ProbeResult(0.1, int(needed), 10 * GB))
    memory, step, _ = check_training(SETTINGS, CPU, 7)
    assert memory.verdict == verdict
    assert "10.0 GB" in memory.found
    assert bool(memory.remedy) == (verdict != "pass")
    assert step.verdict == "pass"


def test_training_that_would_not_fit_in_memory_is_not_tried(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda device: 1000)
    monkeypatch.setattr(machine, "run_probe", lambda *args: pytest.fail("tried"))
    assert [f.verdict for f in check_training(SETTINGS, CPU, 7)] == ["fail", "warn", "warn"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_runs_out(monkeypatch, error):
    def run_out(*args):
        raise error

    monkeypatch.setattr(machine, "run_probe", run_out)
    memory, *others = check_training(SETTINGS, CPU, 7)
    assert (memory.verdict, [f.verdict for f in others]) == ("fail", ["warn", "warn"])
    assert "needs more" in memory.found


def test_a_model_that_can_not_take_images_of_this_size():
    _, step, full_round = check_training(tiny_settings(model="vit_tiny_patch16_224", image_size=48), CPU, 7)
    assert (step.verdict, full_round.verdict) == ("fail", "warn")
    assert "Input height (48) doesn't match model (224)" in step.found


@pytest.mark.parametrize(
    ("steps", "verdict"), [(180, "pass"), (181, "warn"), (360, "warn"), (361, "fail"), (None, "warn")]
)
def test_the_time_of_a_round(monkeypatch, steps, verdict):
    monkeypatch.setattr(machine, "run_probe", lambda *args: ProbeResult(10.0, 1, GB))
    *_, full_round = check_training(tiny_settings(round_timeout=3600), CPU, steps)
    assert full_round.verdict == verdict
    if steps:
        assert f"for {steps} steps; the hub waits 60 min" in full_round.found


def test_a_slow_probe_stops_early(monkeypatch):
    clock = iter(range(0, 10_000, 9))  # every reading of the clock is 9 s after the one before
    monkeypatch.setattr(training_probe, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    advanced = []
    result = run_probe(place_model("test_resnet", CPU), SETTINGS, CPU, advanced.append)
    assert advanced == [1]  # the next step would start after 20 s, and the warm-up must do
    assert result.step_seconds == 9


def test_the_estimate_counts_weights_and_what_the_backward_pass_needs():
    settings = tiny_settings(batch_size=10)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(512, 3))
    weights = 3 * 8 * 4 * 4 + 8 + 512 * 3 + 3
    assert model_bytes(model) == 4 * weights
    images, activations = 3 * 32 * 32, 8 * 8 * 8  # into the convolution; out of tanh, which the linear layer sees too
    linear_in = activations  # flattened from channels_last: another copy
    expected = 4 * weights * 8 + 4 * 10 * (images + activations + linear_in)
    assert estimate_memory(model.to(memory_format=torch.channels_last), settings, CPU) == expected


def test_the_peak_includes_memory_that_was_freed_again():
    with _PeakMemory(CPU) as calm:
        pass
    with _PeakMemory(CPU) as busy:
        torch.ones(50_000_000).sum()
    assert busy.bytes - calm.bytes > 150e6
    assert calm.bytes < free_memory(CPU)


def test_numbers_are_formatted_for_people():
    sizes = (1, 94_207_952, 1_250_000_000, 2 * 10**12)
    assert [format_bytes(n) for n in sizes] == ["1 kB", "94 MB", "1.2 GB", "2.0 TB"]
    times = (0.4213, 35.4, 720, 3600, 12_600)
    assert [format_seconds(s) for s in times] == ["0.42 s", "35 s", "12 min", "60 min", "3.5 h"]
