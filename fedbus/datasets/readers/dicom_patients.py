"""Patients of DICOM files, as pseudonyms and never as ids, for the readers of a site's own images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import split_frame
from fedbus.images.file_kind import is_dicom

if TYPE_CHECKING:
    from fedbus.images.dicom_identity import DicomIdentity


def find_patients(root: Path, paths: Sequence[Path], site: str) -> tuple[list[str | None], list[str]]:
    """Look up the patient of every image.

    Patient ids that differ only in form are one patient. Files without a patient id are of the patient that other files
    of their study name; if none does, the files of one study stay together, because a study is of one patient. A file
    with several listed frames and neither counts as a separate patient: its frames must not be split.

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
    dicom = {file for file in dict.fromkeys(files) if is_dicom(file)}
    frames = Counter(file for file in files if file in dicom)
    if not frames:
        return [None] * len(paths), []
    from fedbus.images.dicom_identity import pseudonym, read_identity  # late: most datasets do without pydicom

    identities = {file: read_identity(file, site) for file in frames}
    patient_of, notes = _resolve(identities)
    for file, count in frames.items():
        if patient_of[file] is None and count > 1:
            patient_of[file] = pseudonym(site, file.relative_to(root).as_posix())
    return [patient_of.get(file) for file in files], notes


def _resolve(identities: "Mapping[Path, DicomIdentity]") -> tuple[dict[Path, str | None], list[str]]:
    """Name the patient of each file by its id, or else by its study; and note what is doubtful."""
    ids_of: dict[str, set[str]] = {}  # by form
    for each in identities.values():
        if each.form and each.patient:
            ids_of.setdefault(each.form, set()).add(each.patient)
    patient_of = {file: min(ids_of[each.form]) if each.form else None for file, each in identities.items()}

    patients_of: dict[str, set[str]] = {}  # by study
    for file, patient in patient_of.items():
        if patient and (study := identities[file].study):
            patients_of.setdefault(study, set()).add(patient)
    sizes = Counter(each.study for each in identities.values() if each.study)
    named = [patient for patient in patient_of.values() if patient is not None]
    by_study = []
    for file, each in identities.items():
        if patient_of[file] is None and each.study and sizes[each.study] > 1:
            known = patients_of.get(each.study, set())
            patient_of[file] = next(iter(known)) if len(known) == 1 else each.study
            by_study.append(file)
    return patient_of, [
        *_note_one_patient(named),
        *_note_spellings(ids_of),
        *_note_unknown(sum(each.marked for each in identities.values()), len(by_study)),
        *_note_contradictions(sum(len(patients) > 1 for patients in patients_of.values())),
    ]


def _note_one_patient(named: Sequence[str]) -> list[str]:
    if len(named) < 2 or len(set(named)) > 1:
        return []
    return [
        f"all {len(named)} DICOM files have the same patient id, as after de-identification; "
        "if they are of several patients, name the patients in a labels.csv"
    ]


def _note_spellings(ids_of: Mapping[str, set[str]]) -> list[str]:
    several = [ids for ids in ids_of.values() if len(ids) > 1]
    if not several:
        return []
    return [
        f"{sum(map(len, several))} patient ids in DICOM files differ only in form, so they count as {len(several)} "
        "patients; if they are different patients, name the patients in a labels.csv"
    ]


def _note_unknown(marked: int, by_study: int) -> list[str]:
    notes = []
    if marked:
        notes.append(f"{marked} DICOM files have a patient id that means unknown, as after de-identification")
    if by_study:
        notes.append(
            f"{by_study} DICOM files have no patient id, so images of one study stay together; a patient with several "
            "studies can still be in several splits: name the patients in a labels.csv"
        )
    return notes


def _note_contradictions(studies: int) -> list[str]:
    if not studies:
        return []
    return [f"{studies} studies in DICOM files have several patient ids, though a study is of one patient: check them"]


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
