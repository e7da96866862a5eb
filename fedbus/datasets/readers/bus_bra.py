"""BUS-BRA (Gómez-Flores et al., 2024): one folder of images, pathology and case in a table.

    BUSBRA/Images/bus_0001-l.png
    BUSBRA/Masks/mask_0001-l.png    its lesion
    BUSBRA/bus_data.csv             columns ID (file name without .png), Case, Pathology, and others

Classes: benign, malignant; no normals. A case is a patient, usually with two views. `CITATION` and `TERMS` are below.
"""

from collections.abc import Sequence
from pathlib import Path

from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import check_labels, check_rows_and_files, existing, image_files
from fedbus.datasets.readers.folders import find_folder, find_folders
from fedbus.datasets.readers.tables import parse_table, read_table
from fedbus.errors import ArchiveError, listed
from fedbus.patient_ids import is_unknown

CENSUS: dict[str, int] | None = {"benign": 1268, "malignant": 607, "normal": 0}
CITATION = (
    "Gómez-Flores W, Gregorio-Calas MJ, Coelho de Albuquerque Pereira W. BUS-BRA: A breast ultrasound "
    "dataset for assessing computer-aided diagnosis systems. "
    "Medical Physics 51(4):3110-3123 (2024). doi:10.1002/mp.16812"
)
TERMS = "CC BY 4.0; its licence file asks for the citation in every use."

_LABELS = ("benign", "malignant")

_ATTRIBUTES = {"birads": "BI-RADS", "device": "device", "side": "side"}
"""Columns by which results are reported, and their names in reports."""


def matches(root: Path) -> bool:
    """Return whether BUS-BRA is at or below a folder."""
    return bool(find_folders(root, _has_bus_bra))


def read(root: Path, site: str) -> Manifest:
    """Read BUS-BRA from the folder with `Images/` and `bus_data.csv`, or one above it.

    Raises:
        ArchiveError: If the layout is another, a label is unknown, rows and files do not match, or a row has no case.
    """
    folder = find_folder(root, _has_bus_bra, "BUS-BRA (Images/ and bus_data.csv)")
    data, images = folder / "bus_data.csv", folder / "Images"
    table = read_table(data, ("id", "case", "pathology"))
    labels = [(line, row["pathology"].lower()) for line, row in table]
    check_labels(data, [(line, label) for line, label in labels if label not in _LABELS], _LABELS)
    names = [f"{row['id']}.png" for _, row in table]
    check_rows_and_files(data, names, [path.name for path in image_files(images)])
    caseless = [f"row {line}" for line, row in table if is_unknown(row["case"])]
    if caseless:
        raise ArchiveError(f"{data} names no case in {listed(caseless)}.", "Restore the file from the dataset.")
    found = [
        (images / name, label, row["case"]) for name, (_, label), (_, row) in zip(names, labels, table, strict=True)
    ]
    return build_manifest(site, root, found, CENSUS)


def mask_files(root: Path, paths: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the mask of each image: `Masks/mask_0001-l.png` of `Images/bus_0001-l.png`."""
    images = [root / path for path in paths]
    names = [f"mask_{image.name.removeprefix('bus_')}" for image in images]
    return existing([image.parent.with_name("Masks") / name for image, name in zip(images, names, strict=True)])


def attributes(root: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return what the table has of each image: its BI-RADS category, device and side."""
    folder = find_folder(root, _has_bus_bra, "BUS-BRA (Images/ and bus_data.csv)")
    table = parse_table(folder / "bus_data.csv", ("id",), lambda name: name.lower() == "id")
    return table.lookup("id", _ATTRIBUTES, [Path(path).stem for path in paths])


def _has_bus_bra(folder: Path) -> bool:
    return (folder / "bus_data.csv").is_file() and (folder / "Images").is_dir()
