"""Which files are images: DICOM by its preamble, as PACS exports have any ending or none; other formats by endings."""

import re
import sys
from pathlib import Path

from fedbus.errors import ImageError
from fedbus.images.limits import open_regular

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""File endings of DICOM, lower case. Files with another ending, or none, are DICOM too if they have its preamble."""

RASTER_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".pgm", ".ppm",
)  # fmt: skip
"""File endings of other images, lower case."""

SUFFIXES = (*RASTER_SUFFIXES, *DICOM_SUFFIXES)
"""File endings that count as images, lower case."""

IMAGE, UNIMPORTANT = "image", ""
"""Kinds of files; every other kind is a phrase for a note on files that are left out."""

_DOCUMENTS = frozenset(
    (
        ".cfg", ".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".json", ".log", ".md", ".ods", ".odt",
        ".pdf", ".py", ".rtf", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
    )
)  # fmt: skip
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini")
_RASTER_STARTS = (
    b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"P5\n", b"P6\n",
)  # fmt: skip

_HEAD_BYTES = 1024  # the preamble, and the file's meta information up to the class of the object
_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)  # (0002,0002) in explicit little endian, PS3.10
_DIRECTORY = "1.2.840.10008.1.3.10"
_WITHOUT_IMAGE = re.compile(  # waveforms, presentation states, raw data and registrations, reports, documents
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(9|11|66|88|104)(\.\d+)*"
)
_START_WITHOUT_PREAMBLE = re.compile(rb"(\x02\x00[\x00\x01]\x00UL|\x08\x00[\x00-\x18]\x00)", re.DOTALL)


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, by its ending or its preamble."""
    return path.suffix.lower() in DICOM_SUFFIXES or _has_preamble(_read_head(path))


def find_kind(path: Path) -> str:
    """Tell what kind of file a regular file is.

    Returns:
        `IMAGE`; `UNIMPORTANT` for documents and files of the operating system; otherwise a phrase such as ".heic".

    Raises:
        OSError: If its kind depends on its content, and it can't be read.
    """
    suffix = path.suffix.lower()
    if suffix in RASTER_SUFFIXES:
        return IMAGE
    if path.name.lower() in _SYSTEM:
        return UNIMPORTANT
    head = _read_head(path, strict=True)
    if _has_preamble(head):
        return _kind_of_dicom(head)
    if suffix in DICOM_SUFFIXES:
        return IMAGE  # decoding it says what is wrong
    if head.startswith(_RASTER_STARTS) or head[8:12] == b"WEBP":
        return f"images with {_name_suffix(suffix)}"
    if _START_WITHOUT_PREAMBLE.match(head):
        return "DICOM without preamble"
    return UNIMPORTANT if suffix in _DOCUMENTS else _name_suffix(suffix)


def _kind_of_dicom(head: bytes) -> str:
    found = _CLASS.search(head)
    sop_class = found[1].decode() if found else ""
    if sop_class == _DIRECTORY:
        return "DICOMDIR"
    return "DICOM without image" if _WITHOUT_IMAGE.fullmatch(sop_class) else IMAGE


def _name_suffix(suffix: str) -> str:
    """The ending as a phrase; the last number of a UID is none."""
    return suffix if suffix and not suffix[1:].isdigit() else "no ending"


def _has_preamble(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _read_head(path: Path, *, strict: bool = False) -> bytes:
    """The first bytes of a file; none if it is not a regular file or, unless strict, can't be opened."""
    try:
        with open_regular(path, most=sys.maxsize) as file:
            return file.read(_HEAD_BYTES)
    except ImageError:
        return b""
    except OSError:
        if strict:
            raise
        return b""
