"""Which device and which arithmetic a run uses."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from fedbus.errors import SettingsError


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

    `auto` is bfloat16 where the hardware multiplies it natively. On a processor without, emulation would cost
    several times the float32 time.
    """
    if setting == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = processor_facts()
            native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Mixed precision for one forward pass; float32 leaves everything as it is."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def processor_facts() -> dict[str, Any]:
    """What PyTorch knows of the processor; nothing, where it is too old to say."""
    facts: dict[str, Any] = dict(getattr(torch.cpu, "get_capabilities", dict)())
    return facts
