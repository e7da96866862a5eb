"""Whom a DICOM file shows, as pseudonyms: its patient, and its study where it names none.

No value of a tag leaves this module, see `fedbus.images.dicom`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedbus.images.dicom_file import keep_quiet, read_dicom
from fedbus.patient_ids import canonical, is_unknown


@dataclass(frozen=True)
class DicomIdentity:
    """Whom a file shows.

    Attributes:
        patient: Pseudonym of the patient id; None if there is none, or it means unknown.
        form: Pseudonym that patient ids have in common if they differ only in form; None if `patient` is None.
        study: Pseudonym of the study; None if the file names none. A study is of one patient.
        marked: Whether the patient id means unknown, as `ANONYMOUS` does.
    """

    patient: str | None = None
    form: str | None = None
    study: str | None = None
    marked: bool = False


def read_identity(path: Path, site: str) -> DicomIdentity:
    """Read whom a file shows; nobody if its header can't be read.

    Raises:
        OSError: If the file can't be opened.
    """
    keep_quiet()
    try:
        header = read_dicom(path, ["PatientID", "StudyInstanceUID"], pixels=False)
        patient, study = (str(header.get(tag) or "").strip() for tag in ("PatientID", "StudyInstanceUID"))
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # pydicom raises OSError for damage too
            raise
        return DicomIdentity()  # decoding the image reports what is wrong with the file
    study_name = None if is_unknown(study) else pseudonym(site, study)
    if is_unknown(patient):
        return DicomIdentity(study=study_name, marked=bool(patient))
    return DicomIdentity(pseudonym(site, patient), pseudonym(site, canonical(patient)), study_name)


def pseudonym(site: str, identity: str) -> str:
    """Derive a pseudonym, because split files are passed on: the first 16 hex digits of SHA-256 of site and identity.

    Anyone who knows the site and tries all possible identities can still identify the patient.
    """
    return hashlib.sha256(f"{site}\x1f{identity}".encode()).hexdigest()[:16]
