"""Measure growing datasets: preparing one (decoding, near-duplicates, groups, split), and the data path of one epoch.

Drawing a hundred thousand phantoms takes too long, so the images are crops of nine phantoms, each from a random place
and with random noise: cheap, all different, and PNG files that must be decoded.
"""

import time
from functools import cache
from pathlib import Path
from typing import Any

import imblearn.over_sampling  # noqa: F401 - balancing imports it when it is first used, which takes seconds
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.datasets.phantoms.hospitals import SITES, draw_patient
from fedbus.images.fingerprint import HASH_BYTES
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.groups import near_pairs
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.system.csv_file import write_csv
from fedbus.training.loop import train_round
from fedbus.training.rows import site_rows
from simulations.benchmarks.growth_memory import own_peak
from simulations.benchmarks.memory_peak import MEGABYTE

SIDE = 48
VIEWS_PER_PATIENT = 3
NOISE = 40.0
DUPLICATE_EVERY = 100
"""One in this many images is the previous one, a little darker: a near-duplicate to be found."""


def write_dataset(folder: Path, images: int, seed: int) -> Path:
    """Write a labels-csv dataset of small images; each patient has three of one class.

    Args:
        folder: A folder that does not exist yet.
        images: Number of images; at least 27, so that every class has three patients.
        seed: Datasets of different seeds have no image in common.

    Returns:
        The folder.
    """
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(seed)
    whole = [_draw(label, number) for number in range(len(SITES)) for label in CLASSES]
    rows: list[tuple[str, str, str]] = []
    pixels = np.empty((0, 0))
    for i in range(images):
        patient = i // VIEWS_PER_PATIENT
        if i % DUPLICATE_EVERY == DUPLICATE_EVERY - 1:
            pixels = 0.9 * pixels
        else:
            phantom = whole[patient % len(whole)]
            top, left = generator.integers(0, np.array(phantom.shape) - SIDE)
            pixels = phantom[top : top + SIDE, left : left + SIDE] + NOISE * generator.standard_normal((SIDE, SIDE))
        name = f"images/{i:06d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name, compress_level=1)
        rows.append((name, CLASSES[patient % len(CLASSES)], f"p{patient}"))
    (folder / "labels.csv").write_text(write_csv(("file", "label", "patient"), rows), encoding="utf-8", newline="")
    return folder


@cache
def _draw(label: str, number: int) -> NDArray[np.float32]:
    """Draw a phantom, with twice the side of the images cropped from it."""
    image = draw_patient(next(iter(SITES)), label, number, 0)[0].image
    size = (2 * SIDE, 2 * SIDE)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def measure_images(folder: Path, images: int) -> dict[str, Any]:
    """Prepare a dataset for the first time, then pass all its training rows through the training loop once.

    Returns:
        Seconds of both, and of only the search for near-duplicates, which compares every pair; the most megabytes by
        which private memory grew in both; and the megabytes of the memory-mapped pixels.
    """
    dataset = write_dataset(folder / "dataset", images, seed=0)
    settings = build_settings(
        {
            "sites": {"one": {"reader": "labels-csv", "path": str(dataset)}}, "cache": str(folder / "cache"),
            "image-size": SIDE, "model": "test_resnet", "weights": "none", "device": "cpu",
        },
        "the benchmark",
    )  # fmt: skip
    with own_peak() as opening:
        started = time.monotonic()
        site = prepare_sites(settings, folder)["one"]
        open_seconds = time.monotonic() - started
    hashes = np.load(next((folder / "cache" / "pixels").glob("*-prints.npy")))[:, :HASH_BYTES]
    started = time.monotonic()
    pairs = len(near_pairs(hashes, settings.near_bits))
    near_seconds = time.monotonic() - started
    with own_peak() as epoch:
        started = time.monotonic()
        steps = run_epoch(site, settings)
        epoch_seconds = time.monotonic() - started
    return {
        "images": images,
        "open_s": open_seconds,
        "open_ms_per_image": 1e3 * open_seconds / images,
        "near_pairs_s": near_seconds,
        "near_pairs": pairs,
        "epoch_s": epoch_seconds,
        "epoch_steps": steps,
        "open_peak_mb": opening.growth_megabytes,
        "epoch_peak_mb": epoch.growth_megabytes,
        "map_mb": site.pixels.nbytes / MEGABYTE,
    }


def run_epoch(site: Site, settings: Settings) -> int:
    """Pass a site's balanced training rows through the training loop once, with almost no model.

    Returns:
        The number of batches.
    """
    model, rows = _Mean(), site_rows(site, settings, seed=0, device=torch.device("cpu"))
    steps = rows.steps_per_round(settings)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    train_round(model, rows, settings, seed=0, round_number=1, steps=steps, optimiser=optimiser)
    return steps


class _Mean(nn.Module):
    """One weight per class times the mean brightness: a model so small that only the data path takes time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(CLASSES)))

    def forward(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(1, 2, 3))[:, None] * self.weight
