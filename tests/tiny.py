"""Settings and sites so small that a training takes a second: noise images of 32 pixels and timm's test model."""

from pathlib import Path

import numpy as np

from fedbus.runs.folder import open_run
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site

SPLITS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def tiny_settings(**changes: object) -> Settings:
    """Settings of three rounds with `test_resnet` from random weights, in float32 on the CPU."""
    settings = {
        "model": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 4, "rounds": 3,
        "learning_rate": 0.01, "device": "cpu", "precision": "float32",
    }  # fmt: skip
    return build_settings(settings | changes, "the tests")


def noise_site(name: str = "north", counts: tuple[int, int, int] = (15, 10, 5), seed: int = 0) -> Site:
    """A site of noise images, brighter for higher class numbers; every split contains each class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    pixels = generator.integers(0, 120, (len(labels), 32, 32)) + 60 * labels[:, None, None]
    splits: dict[str, list[int]] = {split: [] for split in SPLITS}
    for label in range(3):
        rows = np.flatnonzero(labels == label).tolist()
        for split, share in SPLITS.items():
            count = round(share * counts[label])
            splits[split] += rows[:count]
            rows = rows[count:]
    return Site(
        name=name,
        pixels=pixels.astype(np.uint8),
        labels=labels,
        groups=np.array([f"g{i:04d}" for i in range(len(labels))]),
        paths=np.array([f"{i}.png" for i in range(len(labels))]),
        splits={split: np.array(rows, dtype=np.int64) for split, rows in splits.items()},
    )


def start_run(out: Path, settings: Settings, *, resume: bool) -> None:
    """Use a run folder as a process does that is killed before it has trained a round."""
    with open_run(out, settings, resume=resume):
        pass
