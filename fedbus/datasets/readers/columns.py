"""The columns of `labels.csv` under the names that people give them, in several languages."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedbus.datasets.readers.tables import Table, check_repeated, missing_columns
from fedbus.errors import ArchiveError
from fedbus.patient_ids import canonical, is_unknown

FILE = (
    "file", "filename", "filepath", "image", "imagefile", "imagefilename", "imagename", "imagepath", "img",
    "imgname", "imgpath", "picture", "path", "datei", "dateiname", "bild", "bilddatei", "dateipfad",
    "fichier", "nomfichier", "nomdufichier", "archivo", "nombrearchivo", "imagen", "immagine",
)  # fmt: skip
LABEL = (
    "label", "labels", "classlabel", "class", "classname", "diagnosis", "category", "pathology", "klasse",
    "diagnose", "classe", "diagnostic", "clase", "diagnostico", "diagnosi", "etiqueta", "etiquette",
    "etichetta",
)  # fmt: skip
FRAME = ("frame", "frameno", "framenr", "framenumber")
MASK = (
    "mask", "maskfile", "maskfilename", "maskname", "maskpath", "lesionmask", "segmentation", "segmentationmask",
    "maske", "masque", "mascara", "maschera",
)  # fmt: skip
"""Names in small letters without accents, spaces and signs; the first one that a table has is read."""

_ID = (
    "(?:ids?|identifiers?|identity|identification|no|nr|n|num|numbers?|nummer|numero|codes?|codigo|codice|key|index|idx|"
    "uid|uuid|guid|hash|instance|pseudonym(?:i[sz]ed|e)?|pseudo|anon(?:ym(?:ous|i[sz]ed)?)?|kennung|schlussel|"
    "de|del|du|der|des)*"
)
_PATIENT = "(?:patients?|patiente[sn]?|patientin(?:nen)?|pacientes?|pazient[ei]|pacjent(?:ka)?|doente|pat|pt)"
_NAME = "(?:name|nom|nombre|nome)"
_PATIENT_RANKS = (
    rf"{_ID}{_PATIENT}{_ID}|pid|pseudonym(?:id)?|ipp|nip|nhc",
    rf"{_ID}(?:subjects?|subj|persons?|participants?|proband(?:en|in)?|individuals?|sujets?|sujetos?|soggett[oi]|mrn|"
    rf"(?:medical)?records?|historiaclinica){_ID}",
    rf"{_PATIENT}{_NAME}|{_NAME}{_ID}{_PATIENT}",
    rf"{_ID}(?:cases?|fall|falle|cas|casos?|dossier){_ID}",
    rf"{_ID}(?:study|studies|studien?|exam|exams|examination|visit|accession|encounter|untersuchung|examen|estudio|"
    rf"esame|session){_ID}",
)
"""Patterns of columns that identify a patient: by an id, as a subject, by name, as a case, or by an examination. A
patient can have several of the last two."""

_CASE = 3

LONGEST = 60
"""Characters of a header that are looked at."""


@dataclass(frozen=True)
class Columns:
    """Where a table has what is read from it.

    Attributes:
        file: Position of the column with the file.
        label: Position of the column with the class.
        patient: Position of the column that identifies the patient; None without one.
        frame: Position of the column with the frame; None without one.
        mask: Position of the column with the file of the lesion mask; None without one.
        others: Positions of the columns that are not read, those without a name or content left out.
        notes: Which columns are not read, and what the patient's column can't tell.
    """

    file: int
    label: int
    patient: int | None
    frame: int | None
    mask: int | None
    others: tuple[int, ...]
    notes: tuple[str, ...]


def is_known(header: str) -> bool:
    """Return whether a header names a column that is read."""
    key = _key(header)
    return key in (*FILE, *LABEL, *FRAME, *MASK) or _patient_rank(key) is not None


def find_columns(table: Table) -> Columns:
    """Find the columns of a table.

    Raises:
        ArchiveError: If there is none for file or label, or two that mean the same differ.
    """
    keys = [_key(name) for name in table.header]
    file, label, frame, mask = (_find(table, keys, names) for names in (FILE, LABEL, FRAME, MASK))
    missing = [name for name, found in (("file", file), ("label", label)) if found is None]
    if file is None or label is None:
        raise missing_columns(table, missing, ("file", "label"))
    patient, notes = _find_patient(table, keys)
    read = {file, label, patient, frame, mask}
    meaning = [keys[i] for i in read if i is not None]
    others = [i for i in range(len(table.header)) if i not in read and any(table.column(i)) and keys[i] not in meaning]
    unread = [table.header[i] or f"column {i + 1}, which has no name" for i in others]
    if unread:
        hint = "" if patient is not None else "; if one of them identifies the patient, name it patient"
        notes.append(f"labels.csv has columns that are not read: {', '.join(unread)}{hint}")
    return Columns(file, label, patient, frame, mask, tuple(i for i in others if keys[i]), tuple(notes))


def same_column(first: str, second: str) -> bool:
    """Return whether two headers differ at most in case, accents, spaces and signs."""
    return _key(first) == _key(second)


def _key(header: str) -> str:
    text = unicodedata.normalize("NFKD", header).casefold()
    return "".join(character for character in text if character.isalnum())[:LONGEST]


def _find(table: Table, keys: Sequence[str], names: Sequence[str]) -> int | None:
    """The column with the first of these names; several of one name must not differ."""
    for name in names:
        positions = [i for i, key in enumerate(keys) if key == name]
        if positions:
            check_repeated(table, [positions])
            return positions[0]
    return None


def _patient_rank(key: str) -> int | None:
    return next((rank for rank, pattern in enumerate(_PATIENT_RANKS) if re.fullmatch(pattern, key)), None)


def _find_patient(table: Table, keys: Sequence[str]) -> tuple[int | None, list[str]]:
    """The column that identifies the patient best, and what it can't tell.

    A column of cases or examinations with one value in all rows identifies nobody.
    """
    ranks: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        rank = _patient_rank(key)
        if rank is not None and (rank < _CASE or len(set(table.column(i))) > 1):
            ranks.setdefault(rank, []).append(i)
    if not ranks:
        return None, []
    best = min(ranks)
    _check_agreement(table, ranks[best])
    position = ranks[best][0]
    notes = []
    if best >= _CASE:
        notes.append(
            f"no column names the patient, so the column {table.header[position]} stands for it: if a patient can have "
            "several of those, add a column patient"
        )
    return position, notes


def _check_agreement(table: Table, positions: Sequence[int]) -> None:
    """Check that columns that all identify the patient give the same groups of rows."""
    grouped = [_first_rows(table, i, canonical) for i in positions]
    if any(groups != grouped[0] for groups in grouped):
        raise ArchiveError(
            f"{table.path} has {len(positions)} columns that could identify the patient, and they differ: "
            f"{', '.join(table.header[i] for i in positions)}.",
            "Name the right one patient, and rename or remove the others.",
        )


def _first_rows(table: Table, position: int, form: Callable[[str], str]) -> list[int | None]:
    """For each row the first row of the same patient; None where the patient is unknown."""
    first: dict[str, int] = {}
    return [
        None if is_unknown(cell) else first.setdefault(form(cell), row)
        for row, cell in enumerate(table.column(position))
    ]
