"""Settings of small sites, and what tests ask of a prepared site."""

from pathlib import Path

import numpy as np
from PIL import Image

from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.split import SPLITS

COUNTS = {"benign": 16, "malignant": 14, "normal": 12}


def settings_of(cache: Path, sites: dict[str, tuple[str, Path]], **changes: object) -> Settings:
    sources = {name: {"reader": reader, "path": str(path)} for name, (reader, path) in sites.items()}
    return build_settings({"sites": sources, "image_size": 32, "folds": 3, "cache": str(cache)} | changes, "the tests")


def used(site) -> set[str]:
    return {str(site.paths[row]) for split in SPLITS for row in site.splits[split]}


def split_of(site, path: str) -> str:
    row = int(np.flatnonzero(site.paths == path)[0])
    return next(split for split in SPLITS if row in site.splits[split])


def brightened(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.point(lambda grey: int(grey * 0.8) + 20).save(target)
