"""The manifest of a dataset: one row per image, and notes of its reader."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.errors import ArchiveError, ImageError, listed
from fedbus.images.decode import split_frame
from fedbus.images.limits import open_regular
from fedbus.patient_ids import spellings


@dataclass(frozen=True)
class Row:
    """One image of a dataset.

    Attributes:
        path: Path relative to the dataset's folder, with forward slashes; `scan.dcm#12` is the file's twelfth frame.
        label: One of `CLASSES`.
        patient: The dataset's own patient id, or a pseudonym; None where it publishes none.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    path: str
    label: str
    patient: str | None
    sha256: str

    @property
    def content(self) -> str:
        """The file's digest, and the frame if one is named: rows with equal contents have the same image."""
        _, frame = split_frame(Path(self.path))
        return self.sha256 if frame is None else f"{self.sha256}#{frame}"


@dataclass(frozen=True)
class Manifest:
    """The images of a dataset.

    Attributes:
        site: Name of the site.
        root: The folder that the user named.
        rows: Sorted by path.
        notes: What the reader noticed, and differences from the published numbers.
    """

    site: str
    root: Path
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class, in the order of `CLASSES`, absent classes included as 0."""
        found = Counter(row.label for row in self.rows)
        return {name: found[name] for name in CLASSES}

    @property
    def digest(self) -> str:
        """SHA-256 over paths, labels, patients and contents: equal digests, equal data."""
        text = "\n".join(f"{r.path}\t{r.label}\t{r.patient}\t{r.sha256}" for r in self.rows)
        return hashlib.sha256(text.encode()).hexdigest()


def build_manifest(
    site: str,
    root: Path,
    found: Sequence[tuple[Path, str, str | None]],
    census: dict[str, int] | None = None,
    notes: Sequence[str] = (),
) -> Manifest:
    """Turn the (file, label, patient) triples of a reader into a checked manifest.

    Args:
        site: Name of the site.
        root: The folder that the user named; row paths are relative to it.
        found: Absolute image paths with their label and patient; a DICOM file's path may end in #FRAME.
        census: Published images of each class; differences become notes.
        notes: What the reader noticed.

    Raises:
        ArchiveError: If there is no image, a label outside `CLASSES`, or fewer than two classes; or a file is larger
            than an image may be.
    """
    if not found:
        raise ArchiveError(f"{root} contains no images.", "Check the path, and that the dataset is unpacked.")
    strange = [f"{p.relative_to(root)} ({label!r})" for p, label, _ in found if label not in CLASSES]
    if strange:
        raise ArchiveError(
            f"{root} has unknown labels: {listed(strange)}.",
            f"Use {', '.join(CLASSES)}.",
        )
    _check_encoding([path.relative_to(root) for path, _, _ in found])
    found, joined = _join_patients(found)
    digests = {file: _digest(file) for file in {split_frame(path)[0] for path, _, _ in found}}
    rows = sorted(
        (
            Row(path.relative_to(root).as_posix(), label, patient, digests[split_frame(path)[0]])
            for path, label, patient in found
        ),
        key=lambda row: row.path,
    )
    manifest = Manifest(site, root, tuple(rows))
    if sum(count > 0 for count in manifest.counts.values()) < 2:
        raise ArchiveError(
            f"{root} contains only {rows[0].label} images; a classifier needs at least two classes.",
            "Add images of another class, or leave this site out.",
        )
    return Manifest(site, root, tuple(rows), (*notes, *joined, *census_differences(manifest.counts, census)))


def _check_encoding(paths: Sequence[Path]) -> None:
    """Refuse names that no text file can contain: bytes that are not UTF-8."""
    strange = [ascii(path.as_posix()) for path in paths if not _is_text(path.as_posix())]
    if strange:
        raise ArchiveError(
            f"{len(strange)} files have names that are not UTF-8: {listed(strange)}.",
            "Rename them, or unpack the dataset again with a program that knows its encoding.",
        )


def _shown(identity: str) -> str:
    return identity if identity.isprintable() else ascii(identity)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _join_patients(
    found: Sequence[tuple[Path, str, str | None]],
) -> tuple[list[tuple[Path, str, str | None]], list[str]]:
    """Give ids that differ only in form one spelling, and say so: they must not count as two patients."""
    forms = spellings(patient for _, _, patient in found if patient is not None)
    several = [names for names in forms.values() if len(names) > 1]
    same = {name: names[0] for names in several for name in names}
    notes = []
    if several:
        examples = listed([" and ".join(map(_shown, names)) for names in several], most=3)
        notes.append(
            f"{sum(map(len, several))} patient ids differ only in form ({examples}), so they count as "
            f"{len(several)} patients; if they are different patients, give them ids that differ in more"
        )
    return [(path, label, same.get(patient, patient) if patient else patient) for path, label, patient in found], notes


def _digest(file: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    try:
        with open_regular(file) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except ImageError as error:
        raise ArchiveError(error.problem, error.remedy) from error


def census_differences(counts: dict[str, int], census: dict[str, int] | None) -> list[str]:
    """Describe where the number of images differs from the published one, class by class."""
    if census is None:
        return []
    return [
        f"{name}: {counts[name]} images found, {census.get(name, 0)} published"
        for name in CLASSES
        if counts[name] != census.get(name, 0)
    ]
