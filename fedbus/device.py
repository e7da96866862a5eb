"""Which device and which arithmetic a run uses."""

import time
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from fedbus.errors import SettingsError

TRIAL_TURNS = 4
"""Of each dtype, one after the other; the first also chooses kernels."""


def pick_device(setting: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into a device; `auto` takes the GPU if there is one.

    Raises:
        SettingsError: `cuda` was asked for and there is none.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device = cuda, and PyTorch sees no GPU here.", "Use --set device=auto.")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False  # same seed, same result
    use_gpu = setting == "cuda" or (setting == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """Turn `auto`, `float32` or `bfloat16` into the dtype of matrix products.

    `auto` is bfloat16 where the hardware multiplies it natively: a GPU says so itself, a processor is tried out.
    """
    if setting == "auto":
        cuda = device.type == "cuda"
        native = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else bfloat16_pays()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


@lru_cache(maxsize=1)
def bfloat16_pays() -> bool:
    """Whether this processor trains a convolution faster in bfloat16 than in float32, tried once a process.

    Every process of a machine must answer alike, or arms that ran in different ones could not be compared. So one
    thread does the trial and its own processor time is what counts, which other processes do not add to; the fastest
    of several turns stands for each dtype; and the answers lie far apart: native arithmetic is 1.4 to 2 times as fast
    as float32, emulation 2.5 to 12 times as slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        turns = [
            (_convolution_seconds(torch.float32), _convolution_seconds(torch.bfloat16)) for _ in range(TRIAL_TURNS)
        ]
    finally:
        torch.set_num_threads(threads)
    single, half = (min(times) for times in zip(*turns, strict=True))
    return bool(half < single)


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Processor time of a forward and a backward pass; constants in place of draws, which would move global seeds."""
    with torch.inference_mode(False), torch.enable_grad():
        pictures = torch.full((4, 64, 24, 24), 0.5, dtype=dtype).to(memory_format=torch.channels_last)
        weights = torch.full((64, 64, 3, 3), 0.01, dtype=dtype).to(memory_format=torch.channels_last)
        pictures.requires_grad_(), weights.requires_grad_()
        started = time.thread_time()
        F.conv2d(pictures, weights, padding=1).sum().backward()  # type: ignore[no-untyped-call]
        return time.thread_time() - started


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Mixed precision for one forward pass; float32 leaves everything as it is."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def processor_facts() -> dict[str, Any]:
    """What PyTorch knows of the processor; nothing, where it is too old to say."""
    facts: dict[str, Any] = dict(getattr(torch.cpu, "get_capabilities", dict)())
    return facts
