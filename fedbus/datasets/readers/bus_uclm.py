"""BUS-UCLM, also called BUSI-UCLM (Vallez et al., 2025): one folder of images, labels in a table.

    BUS-UCLM/images/ALWI_000.png    the first four letters are the patient
    BUS-UCLM/masks/ALWI_000.png     its lesions in green (benign) or red (malignant)
    BUS-UCLM/INFO.csv               columns Image, Label, Marks (burned-in annotations), and others

Classes: benign, malignant, normal. `CITATION` and `TERMS` are below.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import check_labels, check_rows_and_files, existing, image_files
from fedbus.datasets.readers.folders import find_folder, find_folders
from fedbus.datasets.readers.tables import parse_table, read_table
from fedbus.errors import ArchiveError, listed

CENSUS: dict[str, int] | None = {"benign": 174, "malignant": 90, "normal": 419}
CITATION = (
    "Vallez N, Bueno G, Deniz O, Rienda MA, Pastor C. BUS-UCLM: Breast ultrasound lesion segmentation "
    "dataset. Scientific Data 12:242 (2025). doi:10.1038/s41597-025-04562-3"
)
TERMS = "README: CC BY 4.0; licence file: CC BY-NC 4.0. Treat as non-commercial, with citation."

SAME_PATIENT = {"CHCO": "CHVI"}
"""Second id of a patient -> first: every image of CHCO is identical to one of CHVI."""

_YES_NO = {"yes": True, "no": False}

_ATTRIBUTES = {"doppler": "Doppler", "marks": "burned-in annotations"}
"""Columns by which results are reported, and their names in reports."""

_NAME = re.compile(r"[A-Z]{4}_\d+\.png")


def matches(root: Path) -> bool:
    """Return whether BUS-UCLM is at or below a folder."""
    return bool(find_folders(root, _has_bus_uclm))


def read(root: Path, site: str) -> Manifest:
    """Read BUS-UCLM from the folder with `images/` and `INFO.csv`, or one above it.

    Raises:
        ArchiveError: If the layout is another, a label is unknown, rows and files do not match, or a file name does not
            begin with the four letters of a patient.
    """
    folder = find_folder(root, _has_bus_uclm, "BUS-UCLM (images/ and INFO.csv)")
    info, images = folder / "INFO.csv", folder / "images"
    table = [(line, row["image"], row["label"].lower()) for line, row in read_table(info, ("image", "label"))]
    check_labels(info, [(line, label) for line, _, label in table if label not in CLASSES], CLASSES)
    check_rows_and_files(info, [name for _, name, _ in table], [path.name for path in image_files(images)])
    nameless = [name for _, name, _ in table if not _NAME.fullmatch(name)]
    if nameless:
        raise ArchiveError(
            f"{images} contains file names without a patient: {listed(nameless)}.",
            "Name images as BUS-UCLM does (ALWI_000.png), or read them with labels-csv.",
        )
    found = [(images / name, label, SAME_PATIENT.get(name[:4], name[:4])) for _, name, label in table]
    return build_manifest(site, root, found, CENSUS, _notes([name[:4] for _, name, _ in table]))


def mask_files(root: Path, paths: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the mask of each image, which has the image's name in another folder."""
    images = [root / path for path in paths]
    return existing([image.parent.with_name("masks") / image.name for image in images])


def attributes(root: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return whether each image has Doppler, and burned-in annotations: `yes` or `no`, which one row writes as `Y`."""
    folder = find_folder(root, _has_bus_uclm, "BUS-UCLM (images/ and INFO.csv)")
    table = parse_table(folder / "INFO.csv", ("image",), lambda name: name.lower() == "image")
    found = table.lookup("image", _ATTRIBUTES, [Path(path).name for path in paths])
    whole = {"y": "yes", "n": "no"}
    return {name: [whole.get(cell.lower(), cell.lower()) for cell in cells] for name, cells in found.items()}


def published_annotations(root: Path) -> dict[str, bool]:
    """Read whether each image has burned-in calipers or text, by its path below `root`: the column `Marks`.

    Raises:
        ArchiveError: If the layout is another, there is no such column, or a value is neither yes nor no.
    """
    folder = find_folder(root, _has_bus_uclm, "BUS-UCLM (images/ and INFO.csv)")
    table = read_table(folder / "INFO.csv", ("image", "marks"))
    strange = [(line, row["marks"]) for line, row in table if row["marks"].lower() not in _YES_NO]
    check_labels(folder / "INFO.csv", strange, list(_YES_NO))
    place = (folder / "images").relative_to(root)
    return {(place / row["image"]).as_posix(): _YES_NO[row["marks"].lower()] for _, row in table}


def _has_bus_uclm(folder: Path) -> bool:
    return (folder / "INFO.csv").is_file() and (folder / "images").is_dir()


def _notes(patients: list[str]) -> list[str]:
    return [
        f"{patients.count(second)} images of patient {second} are identical to {first}'s: counted as patient {first}"
        for second, first in SAME_PATIENT.items()
        if second in patients
    ]
