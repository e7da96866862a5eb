"""A site's own images, one folder per class.

    benign/any/name.png  malignant/...  normal/...    names of the folders in any case

Patients are known only from DICOM files; with other files, list the images in a labels.csv instead.
"""

from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers import busi
from fedbus.datasets.readers.common import looks_like_mask
from fedbus.datasets.readers.dicom_patients import find_patients
from fedbus.datasets.readers.folders import find_folders, refuse_folders_below, split_names
from fedbus.datasets.readers.listing import Listing, describe_kinds, has_images, list_images
from fedbus.errors import ArchiveError, listed

CENSUS: dict[str, int] | None = None
CITATION = "The hospital's own images."
TERMS = "The hospital's own."


def matches(root: Path) -> bool:
    """Return whether a folder directly contains a folder of images that is named after a class."""
    return any(folder.is_dir() and folder.name.lower() in CLASSES and has_images(folder) for folder in root.iterdir())


def read(root: Path, site: str) -> Manifest:
    """Read every image below a class's folder as that class.

    The patient of a DICOM file is a pseudonym of its patient id; other files have none. Files that are not images are
    counted in a note.

    Raises:
        ArchiveError: If images are outside the class folders or in a folder of no class, masks are among the images,
            a class's folder contains only files that are not images, a link puts a file into two classes, or there are
            fewer than two classes.
    """
    found_in = [folder for folder in find_folders(root, matches) if not looks_like_mask(folder.relative_to(root) / "-")]
    refuse_folders_below(root, found_in, "class folders")
    listing = list_images(root)
    files = listing.images
    classes = {path: _class(root, path) for path in files}
    _refuse_masks(root, files)
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
    _refuse_lost_classes(listing, set(classes.values()))
    patients, notes = find_patients(root, files, site)
    if None in patients and any(patients):
        notes.append(f"{patients.count(None)} images name no patient; each counts as a separate patient")
    found = [(path, classes[path], patient) for path, patient in zip(files, patients, strict=True)]
    return build_manifest(site, root, found, CENSUS, [*notes, *listing.notes, *_split_notes(root, files)])


def _class(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[0].lower()


def _refuse_masks(root: Path, files: list[Path]) -> None:
    masks = [path.relative_to(root) for path in files if looks_like_mask(path.relative_to(root))]
    if not masks:
        return
    folders = sorted({path.parent.as_posix() for path in masks if looks_like_mask(path.parent / "-")})
    moved = f" (folders {listed(folders)})" if folders else ""
    published = "; it is BUSI: read it with busi, which leaves them out" if busi.matches(root) else ""
    raise ArchiveError(
        f"{root} has {len(masks)} masks among its images: {listed(masks)}.",
        f"Move the masks out of this folder{moved}{published}.",
    )


def _refuse_lost_classes(listing: Listing, present: set[str]) -> None:
    """Refuse classes whose folder has other files in place of images, and files that links put into two classes."""
    root = listing.folder
    for name in set(CLASSES) - present:
        lost = {
            kind: here
            for kind, paths in listing.left_out.items()
            if (here := [path for path in paths if path.parent != root and _class(root, path) == name])
        }
        if lost:
            raise ArchiveError(
                f"{root} has no image of {name} that can be read, only {describe_kinds(lost)}.",
                "Convert them to PNG or DICOM, or move them out of this folder.",
            )
    if len(present) == 1 and listing.left_out:
        raise ArchiveError(
            f"{root} contains only {next(iter(present))} images; a classifier needs at least two classes. "
            f"Not read as images: {describe_kinds(listing.left_out)}.",
            "Put images of another class beside them, or leave this site out.",
        )
    twice = [
        f"{link.relative_to(root)} and {target.relative_to(root)}"
        for link, target in listing.repeated
        if target != root and _class(root, link) != _class(root, target) and _class(root, target) in CLASSES
    ]
    if twice:
        raise ArchiveError(
            f"{root} has links that put files into two classes: {listed(twice)}.", "Remove the wrong links."
        )


def _split_notes(root: Path, files: list[Path]) -> list[str]:
    names = sorted({name for path in files for name in split_names(path.relative_to(root).parent)})
    if not names:
        return []
    return [f"the folders {listed(names)} are read as one: splits made elsewhere are never used"]
