"""GDPH&SYSUCC (Mo et al., 2023): two hospitals in one dataset, published in two layouts, no patient ids.

    (a) img/benign(0).png     label.csv, columns name, label (0 benign, 1 malignant)
    (b) GDPH/benign(443).png  SYSUCC/benign(0).png  BIRADS&FOLD.xlsx, sheet prediction, column ID

File names and their indices are the same in both: SYSUCC has benign 0 to 442 and malignant 0 to 1115, GDPH the rest.
Classes: benign, malignant; no normals. The hospitals can be read as one site or as two. `CITATION` and `TERMS` are
below.
"""

import re
import zipfile
from pathlib import Path

from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import check_labels, check_rows_and_files, image_files
from fedbus.datasets.readers.folders import find_folder, find_folders
from fedbus.datasets.readers.tables import read_table
from fedbus.errors import ArchiveError, listed
from fedbus.images.limits import MOST_TABLE_BYTES, MOST_WORKBOOK_CELLS

CENSUS: dict[str, int] | None = {"benign": 886, "malignant": 1519, "normal": 0}
CENSUS_OF_HOSPITAL: dict[str, dict[str, int]] = {
    "GDPH": {"benign": 443, "malignant": 403, "normal": 0},
    "SYSUCC": {"benign": 443, "malignant": 1116, "normal": 0},
}
CITATION = (
    "Mo Y, Han C, Liu Y, et al. HoVer-Trans: Anatomy-aware HoVer-Transformer for ROI-free breast "
    "cancer diagnosis in ultrasound images. IEEE Transactions on Medical Imaging 42(6):1696-1706 (2023). "
    "doi:10.1109/TMI.2023.3236011"
)
TERMS = "No licence file is published; cite the paper, do not pass the images on."

WORKBOOK = "BIRADS&FOLD.xlsx"
_LABELS = ("benign", "malignant")
_CODES = {"0": "benign", "1": "malignant"}
_NAME = re.compile(r"(?P<label>benign|malignant)\((?P<index>\d+)\)\.png")


def matches(root: Path) -> bool:
    """Return whether GDPH&SYSUCC is at or below a folder, in either layout."""
    return bool(find_folders(root, _has_either_layout))


def read(root: Path, site: str) -> Manifest:
    """Read both hospitals as one site.

    Raises:
        ArchiveError: If the layout is another, names and labels contradict each other, rows and files do not match, or
            the folder of a hospital is missing.
    """
    return _read(root, site, ("GDPH", "SYSUCC"), CENSUS)


def read_gdph(root: Path, site: str) -> Manifest:
    """Read only the images of GDPH; raises the same errors as `read`."""
    return _read(root, site, ("GDPH",), CENSUS_OF_HOSPITAL["GDPH"])


def read_sysucc(root: Path, site: str) -> Manifest:
    """Read only the images of SYSUCC; raises the same errors as `read`."""
    return _read(root, site, ("SYSUCC",), CENSUS_OF_HOSPITAL["SYSUCC"])


def _read(root: Path, site: str, hospitals: tuple[str, ...], census: dict[str, int] | None) -> Manifest:
    folder = find_folder(root, _has_either_layout, "GDPH&SYSUCC (label.csv and img/, or GDPH/ and SYSUCC/)")
    if _has_table(folder):
        paths = [path for path in _read_table(folder) if _hospital(path) in hospitals]
        notes: list[str] = []
    else:
        paths, notes = _read_folders(root, folder, hospitals)
    found: list[tuple[Path, str, str | None]] = [(path, _parse(path)["label"], None) for path in paths]
    return build_manifest(site, root, found, census, notes)


def _read_table(folder: Path) -> list[Path]:
    table, images = folder / "label.csv", folder / "img"
    rows = [(line, row["name"], row["label"]) for line, row in read_table(table, ("name", "label"))]
    check_labels(table, [(line, code) for line, _, code in rows if code not in _CODES], ("0 (benign)", "1 (malignant)"))
    paths = image_files(images)
    _check_names(images, paths)
    check_rows_and_files(table, [name for _, name, _ in rows], [path.name for path in paths])
    contradicted = [f"row {line} ({name}: {code})" for line, name, code in rows if not name.startswith(_CODES[code])]
    if contradicted:
        raise ArchiveError(
            f"{table} contradicts the names of the files: {listed(contradicted)}.",
            "Unpack the dataset again.",
        )
    return paths


def _read_folders(root: Path, folder: Path, hospitals: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    missing = [name for name in hospitals if not (folder / name).is_dir()]
    if missing:
        present = [name.lower() for name in CENSUS_OF_HOSPITAL if (folder / name).is_dir()]
        raise ArchiveError(
            f"{folder} has no folder {', '.join(missing)}.",
            f"Unpack the whole dataset, or use the reader {', '.join(present)}.",
        )
    paths = [path for name in hospitals for path in image_files(folder / name)]
    _check_names(folder, paths)
    notes = _compare_with_workbook(folder, paths, hospitals)
    elsewhere = [str(path.relative_to(root)) for path in paths if _hospital(path) != path.parent.name]
    if elsewhere:
        notes.append(f"{len(elsewhere)} files have an index of the other hospital: {listed(elsewhere)}")
    return paths, notes


def _compare_with_workbook(folder: Path, paths: list[Path], hospitals: tuple[str, ...]) -> list[str]:
    workbook = folder / WORKBOOK
    if not workbook.is_file():
        return [f"{WORKBOOK} is missing, so the list of images could not be checked"]
    listed_there = {name for name in _workbook_ids(workbook) if _hospital(Path(f"{name}.png")) in hospitals}
    here = {path.stem for path in paths}
    differences = {
        f"in {WORKBOOK} but not on disk": sorted(listed_there - here),
        f"on disk but not in {WORKBOOK}": sorted(here - listed_there),
    }
    return [f"{len(names)} images {what}: {listed(names)}" for what, names in differences.items() if names]


def _workbook_ids(workbook: Path) -> list[str]:
    from openpyxl import load_workbook  # late: only this layout of this dataset has a workbook
    from openpyxl.utils.exceptions import InvalidFileException

    remedy = "Restore it from the dataset, or remove it to read the images without it."
    try:
        with zipfile.ZipFile(workbook) as parts:  # zipfile reads no more of a part than is declared here
            if sum(part.file_size for part in parts.infolist()) > MOST_TABLE_BYTES:
                raise ArchiveError(f"{workbook} unpacks to more than {MOST_TABLE_BYTES / 2**20:.0f} MiB.", remedy)
        book = load_workbook(workbook, read_only=True, data_only=True)
        sheet = book["prediction"] if "prediction" in book.sheetnames else book.worksheets[0]
        # A sheet of a few bytes may declare millions of empty cells.
        rows = list(sheet.iter_rows(max_row=MOST_WORKBOOK_CELLS[0], max_col=MOST_WORKBOOK_CELLS[1], values_only=True))
        book.close()
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise ArchiveError(f"{workbook} can't be read as a workbook ({error}).", remedy) from error
    header = [str(cell).strip() for cell in rows[0]] if rows else []
    if "ID" not in header:
        raise ArchiveError(f"{workbook} has no column ID.", remedy)
    ids = [str(row[header.index("ID")] or "").strip() for row in rows[1:]]
    strange = [name for name in ids if name and not _NAME.fullmatch(f"{name}.png")]
    if strange:
        raise ArchiveError(f"{workbook} names images that this dataset can't have: {listed(strange)}.", remedy)
    return [name for name in ids if name]


def _check_names(folder: Path, paths: list[Path]) -> None:
    strange = [path.name for path in paths if not _NAME.fullmatch(path.name)]
    if strange:
        raise ArchiveError(
            f"{folder} contains images that GDPH&SYSUCC does not have: {listed(strange)}.",
            "Remove them; names are like benign(0).png.",
        )


def _parse(path: Path) -> re.Match[str]:
    name = _NAME.fullmatch(path.name)
    assert name is not None, f"{path} passed _check_names"
    return name


def _hospital(path: Path) -> str:
    name = _parse(path)
    # SYSUCC's images carry the first indices of each class, as many as it has.
    return "SYSUCC" if int(name["index"]) < CENSUS_OF_HOSPITAL["SYSUCC"][name["label"]] else "GDPH"


def _has_either_layout(folder: Path) -> bool:
    return _has_table(folder) or any((folder / name).is_dir() for name in CENSUS_OF_HOSPITAL)


def _has_table(folder: Path) -> bool:
    return (folder / "label.csv").is_file() and (folder / "img").is_dir()
