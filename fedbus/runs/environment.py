"""Versions, machine and command of a run."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from fedbus.device import processor_facts

PACKAGES = (
    "fedbus", "flwr", "ray", "torch", "torchvision", "timm",
    "imbalanced-learn", "scikit-learn", "numpy", "pillow", "imagehash",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Describe versions, machine and command, for the report."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(_without_folder(word) for word in sys.argv),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "machine": {
            "cpu": _processor(),
            "cores": os.cpu_count(),
            "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
            "gpu": gpu,
        },
    }


def _without_folder(word: str) -> str:
    """Reduce paths to their last part, `--site=busi=BUSI`: reports are shared, and folders can be private."""
    before, equals, path = word.rpartition("=")
    return f"{before}{equals}{Path(path).name}" if "/" in path else word


def _processor() -> str:
    return str(processor_facts().get("cpu_name") or platform.processor() or platform.machine())
