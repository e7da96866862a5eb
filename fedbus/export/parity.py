"""Whether an exported file gives the same probabilities as PyTorch, on images that are drawn for no other purpose."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.datasets.phantoms.hospitals import SITES, draw_patient
from fedbus.errors import RunError
from fedbus.export.network import Run
from fedbus.images.decode import resize_image
from fedbus.model_folder.read import ModelFolder
from fedbus.models.inputs import normalise
from fedbus.predict.decode import Decoded, Decoder
from fedbus.predict.sources import find_sources
from fedbus.runs.folder import is_run
from fedbus.sites.site import open_site, read_facts

LIMIT = 1e-4
"""Largest difference of a probability."""

MOST_IMAGES = 48
"""Images that are compared, at most, evenly spaced."""

_BATCH = 16

_PHANTOM_SEED = 0


@dataclass(frozen=True)
class Parity:
    """The content of `parity.json`.

    Attributes:
        images: Number of images that were compared.
        source: Where they come from.
        largest_difference: Largest absolute difference of a probability between the exported file and PyTorch, both in
            float32 and with the temperature applied.
        limit: What it must not exceed.
    """

    images: int
    source: str
    largest_difference: float
    limit: float = LIMIT

    def to_json(self) -> dict[str, object]:
        """Return the content of the file."""
        return asdict(self)


def compare(exported: Run, reference: Run, images: NDArray[np.uint8], source: str) -> Parity:
    """Compare an exported network with PyTorch, in batches of several images and of one.

    Raises:
        RunError: If a probability differs by more than `LIMIT`.
    """
    difference = 0.0
    for batch in (*np.array_split(images, range(_BATCH, len(images), _BATCH)), images[:1]):
        given = normalise(torch.from_numpy(batch.copy()).unsqueeze(1).float() / 255).contiguous().numpy()
        difference = float(np.maximum(difference, np.abs(exported(given) - reference(given)).max()))  # NaN stays
    if not difference <= LIMIT:
        raise RunError(
            f"The exported model differs from PyTorch by up to {difference:.1e} in a probability; at most {LIMIT:.0e} "
            "is allowed. Nothing was written.",
            "Choose the other --format, or another architecture.",
        )
    return Parity(len(images), source, difference)


def parity_images(folder: ModelFolder, paths: Sequence[Path]) -> tuple[NDArray[np.uint8], str]:
    """Choose the images to compare on: those below paths, else test images of the run, else phantoms.

    Returns:
        uint8 [N, size, size], and where they come from.

    Raises:
        RunError: If paths contain no image that can be decoded.
    """
    size = folder.facts.image_size
    if paths:
        found = find_sources(paths).sources
        decoder = Decoder(size, folder.facts.burned_in == "masked")
        images = [
            each.pixels
            for decoded in decoder.decode_all(found[_spread(len(found))])
            for each in decoded
            if isinstance(each, Decoded)
        ]
        if not images:
            raise RunError(f"{', '.join(map(str, paths))} contains no image that can be read.", "Name other images.")
        return np.stack(images[:MOST_IMAGES]), "given images"
    run = next((parent for parent in folder.path.resolve().parents if is_run(parent)), None)
    try:
        if run is not None:
            return _test_images(run), "test images of the run"
    except RunError:  # the decoded images were deleted, or are on another machine
        pass
    return _phantoms(size), "phantoms (synthetic images), since no images of the run are on this machine"


def _test_images(run: Path) -> NDArray[np.uint8]:
    """Read test images of all sites from the pixel cache."""
    sites = [open_site(run, name) for name in read_facts(run)]
    share = -(-MOST_IMAGES // len(sites))
    rows = [site.splits["test"] for site in sites]
    chosen = [site.pixels[test[_spread(len(test), share)]] for site, test in zip(sites, rows, strict=True)]
    return np.concatenate(chosen)[:MOST_IMAGES]


def _phantoms(size: int) -> NDArray[np.uint8]:
    patients = ((site, label, number) for number in range(MOST_IMAGES) for site in SITES for label in CLASSES)
    views = (view for patient in patients for view in draw_patient(*patient, _PHANTOM_SEED))
    return np.stack([resize_image(Image.fromarray(view.image), size) for view in islice(views, _BATCH)])


def _spread(count: int, most: int = MOST_IMAGES) -> slice:
    """Select about `most` of `count` items at equal distances."""
    return slice(None, None, max(1, -(-count // most)))
