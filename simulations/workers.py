"""How many sites of a simulation train at the same time, and their parts of the processors and GPUs."""

import math
from typing import Any

import torch

from fedbus.device import pick_device
from fedbus.settings.schema import Settings

MOST_ON_A_GPU = 3
"""Workers that share a GPU unless the setting says otherwise: on an H200, a round with three took .79 of the time of
one (docs/gpu.md)."""

WORKER_BYTES = 16e9
"""GPU memory for each of them; ResNet50V2 needs 6.5 GB for batches of 64 images of 224 px, `resnetv2_50d_gn` 14.7."""


def count_workers(settings: Settings) -> int:
    """Return how many sites train at the same time: as set, or as many as pay and fit.

    On a CPU one is enough, since it uses all cores; of a cluster's GPUs we don't know the memory.

    Raises:
        SettingsError: If a GPU was requested and there is none.
    """
    if settings.workers:
        return settings.workers
    if settings.ray_address or pick_device(settings.device).type == "cpu":
        return 1
    smallest = min(torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count()))
    on_each = max(1, min(MOST_ON_A_GPU, int(smallest / WORKER_BYTES)))
    return min(len(settings.sites), on_each * torch.cuda.device_count())


def worker_share(device: str, workers: int, processors: int, gpus: int) -> dict[str, Any]:
    """Return Ray's resources of one worker: all share the processors and GPUs equally.

    Args:
        device: The setting.
        workers: Number of workers.
        processors: Processors of the machine.
        gpus: Its GPUs.
    """
    gpus = 0 if device == "cpu" else gpus
    return {"num_cpus": max(1, processors // workers), "num_gpus": gpus_per_worker(gpus, workers)}


def gpus_per_worker(gpus: int, workers: int) -> float:
    """Return GPUs per worker: a whole number if there are enough (Ray does not accept 1.5), else a fraction of one."""
    if gpus == 0:
        return 0.0
    return float(gpus // workers) if gpus >= workers else 1 / math.ceil(workers / gpus)
