"""Device and precision: what is requested, what the hardware supports, and a measurement without side effects."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from fedbus import device
from fedbus.device import bfloat16_is_faster, pick_device, pick_dtype
from fedbus.errors import SettingsError

CPU = torch.device("cpu")


@pytest.fixture
def untried():
    """Forget the trial's answer before a test and after it."""
    bfloat16_is_faster.cache_clear()
    yield
    bfloat16_is_faster.cache_clear()


def test_a_given_dtype_is_used_without_a_measurement(monkeypatch):
    monkeypatch.setattr(device, "bfloat16_is_faster", None)
    assert pick_dtype("float32", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("single", "half", "expected"),
    [
        ([5.0, 5.1, 5.2, 5.0], [2.9, 2.8, 3.0, 2.9], torch.bfloat16),
        ([5.0, 5.1, 5.2, 5.0], [14.0, 13.5, 13.9, 14.1], torch.float32),
        ([60.0, 5.1, 5.2, 5.0], [200.0, 2.8, 30.0, 2.9], torch.bfloat16),  # kernels chosen, and a turn disturbed
        ([60.0, 70.0, 5.2, 65.0], [20.0, 14.0, 13.9, 14.1], torch.float32),
    ],
)
def test_the_fastest_trial_of_each_decides_once_per_process(monkeypatch, untried, single, half, expected):
    times = {torch.float32: iter(single), torch.bfloat16: iter(half)}
    monkeypatch.setattr(device, "_convolution_seconds", lambda dtype: next(times[dtype]))
    assert pick_dtype("auto", CPU) == expected
    assert pick_dtype("auto", CPU) == expected  # a second trial would find no more times


def test_the_trial_runs_on_one_thread_and_leaves_threads_and_seeds_as_they_were(monkeypatch, untried):
    threads, seen = torch.get_num_threads(), []
    run = device._convolution_seconds
    monkeypatch.setattr(device, "_convolution_seconds", lambda d: seen.append(torch.get_num_threads()) or run(d))
    torch.set_num_threads(2)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with torch.inference_mode():
        answer = bfloat16_is_faster()
    try:
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {1}
    assert isinstance(answer, bool)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN's limit is for x86")
def test_emulated_bfloat16_is_not_chosen():
    code = "import torch; from fedbus.device import pick_dtype; print(pick_dtype('auto', torch.device('cpu')))"
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    said = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "torch.float32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused_and_auto_uses_the_cpu():
    with pytest.raises(SettingsError, match="no GPU"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == CPU
