"""Patients of DICOM files, as pseudonyms and never as ids, for the readers of a site's own images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import DICOM, split_frame


def find_patients(root: Path, paths: Sequence[Path], site: str) -> tuple[list[str | None], list[str]]:
    """Look up the patient of every image.

    A DICOM file that names no patient, but has several listed frames, counts as a separate patient: its frames must not
    be split.

    Args:
        root: The dataset's folder.
        paths: Paths of images below root, DICOM with or without a frame.
        site: Name of the site, part of the pseudonym.

    Returns:
        A pseudonym for each path, None where there is none; and notes on patients that can't be distinguished.

    Raises:
        OSError: If a file can't be opened.
    """
    files = [split_frame(path)[0] for path in paths]
    frames = Counter(file for file in files if file.suffix.lower() == DICOM)
    patient_of: dict[Path, str | None] = {}
    if frames:
        from fedbus.images.dicom import find_patient, pseudonym  # late: most datasets do without pydicom

        for file, count in frames.items():
            patient = find_patient(file, site)
            if patient is None and count > 1:
                patient = pseudonym(site, file.relative_to(root).as_posix())
            patient_of[file] = patient
    named = [patient for patient in patient_of.values() if patient is not None]
    notes = []
    if len(named) > 1 and len(set(named)) == 1:
        notes.append(
            f"all {len(named)} DICOM files have the same patient id, as after de-identification; "
            "if they are of several patients, name the patients in a labels.csv"
        )
    return [patient_of.get(file) for file in files], notes


def complete_patients(
    table: Path, paths: Sequence[Path], named: Sequence[str | None], found: Sequence[str | None]
) -> list[str | None]:
    """Fill in the patients that a table leaves empty with those of the files.

    If the rows of one pseudonym name exactly one patient, empty rows of that pseudonym get that patient.

    Args:
        table: The table's file, for the message.
        paths: The image of each row.
        named: The patient that each row names, or None.
        found: The patient that each file names, or None.

    Raises:
        ArchiveError: If rows for frames of one file name different patients.
    """
    names: dict[str, set[str]] = {}
    for name, pseudonym in zip(named, found, strict=True):
        if name and pseudonym:
            names.setdefault(pseudonym, set()).add(name)
    same = {pseudonym: next(iter(given)) for pseudonym, given in names.items() if len(given) == 1}
    patients = [
        name or (same.get(pseudonym, pseudonym) if pseudonym else None)
        for name, pseudonym in zip(named, found, strict=True)
    ]
    patients_of: dict[Path, set[str | None]] = {}
    for path, patient in zip(paths, patients, strict=True):
        patients_of.setdefault(split_frame(path)[0], set()).add(patient)
    torn = [file.relative_to(table.parent).as_posix() for file, several in patients_of.items() if len(several) > 1]
    if torn:
        raise ArchiveError(
            f"{table} names several patients for frames of one file: {listed(torn)}.",
            "Name the same patient in every row of a file.",
        )
    return patients
