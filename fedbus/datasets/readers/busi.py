"""BUSI (Al-Dhabyani et al., 2020): one folder per class, no patient ids.

    Dataset_BUSI_with_GT/benign/benign (1).png
    Dataset_BUSI_with_GT/benign/benign (1)_mask.png    masks are never images; a second one is _mask_1.png

Classes: benign, malignant, normal. `CITATION` and `TERMS` are below.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import image_files
from fedbus.datasets.readers.folders import find_folder, find_folders
from fedbus.errors import ArchiveError, listed

CENSUS: dict[str, int] | None = {"benign": 437, "malignant": 210, "normal": 133}
CITATION = (
    "Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
    "Data in Brief 28:104863 (2020). doi:10.1016/j.dib.2019.104863"
)
TERMS = "No licence file is published; cite the paper, do not pass the images on."

_NAME = re.compile(r"(?P<label>benign|malignant|normal) \(\d+\)(?P<mask>_mask(_\d+)?)?\.(?i:png)")


def matches(root: Path) -> bool:
    """Return whether BUSI is at or below a folder."""
    return bool(find_folders(root, _has_busi))


def read(root: Path, site: str) -> Manifest:
    """Read BUSI from `Dataset_BUSI_with_GT` or a folder above it; masks are never images.

    Raises:
        ArchiveError: If the layout is another, or an image is outside the class folders, has a name that BUSI does not
            give, or is in the folder of another class.
    """
    folder = find_folder(root, _has_busi, "BUSI (benign/, malignant/ and normal/ with 'benign (1).png', ...)")
    found: list[tuple[Path, str, str | None]] = []
    strays = []
    for path in image_files(folder, nested=True):
        name = _NAME.fullmatch(path.name)
        if name is None or path.parent != folder / name["label"]:
            strays.append(path.relative_to(root))
        elif name["mask"] is None:
            found.append((path, name["label"], None))
    if strays:
        raise ArchiveError(
            f"{root} contains {len(strays)} images that BUSI does not have there: {listed(strays)}.",
            "Remove them, or read your own images with class-folders.",
        )
    return build_manifest(site, root, found, CENSUS)


def mask_files(root: Path, paths: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the masks beside each image: `benign (1)_mask.png`, and `_mask_1.png` and so on for further lesions."""
    masks: dict[Path, list[Path]] = {}
    for folder in {(root / path).parent for path in paths}:
        for path in sorted(folder.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name and name["mask"]:
                image = folder / path.name.replace(name["mask"], "")
                masks.setdefault(image.with_suffix(""), []).append(path)
    return [tuple(masks.get((root / path).with_suffix(""), ())) for path in paths]


def _has_busi(folder: Path) -> bool:
    class_folders = [folder / name for name in CLASSES if (folder / name).is_dir()]
    return any(_NAME.fullmatch(path.name) for each in class_folders for path in each.iterdir())
