"""Read an outside dataset: all its images are test images, decoded once for each way in which the models see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.predictions import Predictions
from fedbus.external.models import GivenModel
from fedbus.model_folder.facts import ModelFacts
from fedbus.settings.load import build_settings
from fedbus.settings.schema import SiteSource
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from fedbus.sites.prepare import LoadedDataset, load_dataset
from fedbus.system.progress import Advance

View = tuple[int, str]
"""How a model sees images: their size, and what happens to burned-in annotations."""


@dataclass(frozen=True, eq=False)
class OutsideDataset:
    """A dataset that took no part in the training of the models.

    Attributes:
        name: Its name.
        reader: Its reader.
        loaded: The dataset, decoded for the first model, with its groups.
        images: By `View`, uint8 [N, size, size], in the order of the manifest.
    """

    name: str
    reader: str
    loaded: LoadedDataset
    images: dict[View, NDArray[np.uint8]]

    def rows(self, tested: Sequence[int], probabilities: NDArray[np.float64]) -> Predictions:
        """Join the probabilities of the tested rows, float64 [N, 3], with their labels and names."""
        rows = [self.loaded.manifest.rows[row] for row in tested]
        return Predictions(
            labels=np.array([CLASSES.index(row.label) for row in rows]),
            probabilities=probabilities,
            groups=np.array([f"{self.name}/{self.loaded.grouped.groups[row]}" for row in tested]),
            sites=np.array([self.name] * len(rows)),
            paths=np.array([row.path for row in rows]),
        )


def view_of(facts: ModelFacts) -> View:
    """Return how a model sees images."""
    return facts.image_size, facts.burned_in


def read_outside(
    name: str, source: SiteSource, models: Sequence[GivenModel], progress: Callable[[str, int], Advance]
) -> OutsideDataset:
    """Read, group and decode a dataset.

    Images that any of the models counts as near-duplicates are in one group.

    Args:
        name: Its name.
        source: Its reader and folder.
        models: The models that will be applied.
        progress: Function that makes an `Advance` from a title and the number of images.

    Raises:
        ArchiveError, ImageError: If the dataset can't be used.
        RunError: If the disk is full, or no image is left.
    """
    facts = [folder.facts for model in models for folder in model.seeds]
    views = list(dict.fromkeys(view_of(each) for each in facts))
    near_bits = max(each.near_bits for each in facts)
    loaded, images = None, {}
    for size, burned_in in views:
        settings = build_settings({"image-size": size, "burned-in": burned_in, "near-bits": near_bits}, "the model")

        def titled(title: str, count: int, size: int = size) -> Advance:
            return progress(f"read {title} ({size} px)", count)

        if loaded is None:
            loaded = load_dataset(name, source, settings, titled)
            images[size, burned_in] = loaded.pixels.images
        else:
            advance = titled(name, len(loaded.manifest.rows))
            images[size, burned_in] = decode_dataset(loaded.manifest, PixelCache.of(settings), advance).images
    assert loaded is not None, "there is at least one model"
    if not loaded.grouped.kept:
        raise RunError(f"{source.path} has no image with an undisputed label.", "Correct the labels of its duplicates.")
    return OutsideDataset(name, source.reader, loaded, images)
