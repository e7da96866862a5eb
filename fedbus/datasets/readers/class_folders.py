"""A site's own images, one folder per class.

    benign/any/name.png  malignant/...  normal/...    names of the folders in any case

Patients are known only from DICOM files; with other files, list the images in a labels.csv instead.
"""

from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import image_files, looks_like_mask
from fedbus.datasets.readers.dicom_patients import find_patients
from fedbus.errors import ArchiveError, listed

CENSUS: dict[str, int] | None = None
CITATION = "The hospital's own images."
TERMS = "The hospital's own."


def matches(root: Path) -> bool:
    """Return whether a folder directly contains a folder of images that is named after a class."""
    return any(
        folder.is_dir() and folder.name.lower() in CLASSES and image_files(folder, nested=True)
        for folder in root.iterdir()
    )


def read(root: Path, site: str) -> Manifest:
    """Read every image below a class's folder as that class.

    The patient of a DICOM file is a pseudonym of its patient id; other files have none.

    Raises:
        ArchiveError: If images are outside the class folders or in a folder of no class, masks are among the images, or
            there are fewer than two classes.
    """
    files = image_files(root, nested=True)
    classes = {path: path.relative_to(root).parts[0].lower() for path in files}
    masks = [path.relative_to(root) for path in files if looks_like_mask(path.relative_to(root))]
    if masks:
        raise ArchiveError(
            f"{root} has {len(masks)} masks among its images: {listed(masks)}.",
            "Move the masks out of this folder; if it is BUSI as published, read it with busi.",
        )
    loose = [path.name for path in files if path.parent == root]
    if loose:
        raise ArchiveError(
            f"{root} has {len(loose)} images outside any class folder: {listed(loose)}.",
            f"Move each into {', '.join(CLASSES)}, or list them in a labels.csv and read with labels-csv.",
        )
    unknown = sorted({path.relative_to(root).parts[0] for path in files if classes[path] not in CLASSES})
    if unknown:
        raise ArchiveError(
            f"{root} has images in folders that are not a class: {listed(unknown)}.",
            f"Name folders {', '.join(CLASSES)}, and move other images elsewhere.",
        )
    patients, notes = find_patients(root, files, site)
    found = [(path, classes[path], patient) for path, patient in zip(files, patients, strict=True)]
    return build_manifest(site, root, found, CENSUS, notes)
