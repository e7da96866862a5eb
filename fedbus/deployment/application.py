"""The application that hub and sites must share: its files, its digest, and how a bundle differs from them."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

PACKAGES = ("fedbus", "server", "clients")
"""The packages in Flower's bundle; simulations are not part of it."""

NOT_ALLOWED, OTHER_VERSION = 403, 409
"""Error codes of a site: its operator has not approved the study (the hub waits for that), or the study is approved but
its application differs from the one installed there."""

MAX_UNPACKED_BYTES = 64 << 20
"""Of a bundle's files; the application's have less than 2 MB."""

ROOT = Path(__file__).parents[2]


def installed_files() -> dict[str, str]:
    """Return the SHA-256 of every source file of the installed application, by its path in the bundle."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def digest_of(bundle: bytes) -> str:
    """Return what an operator approves: the SHA-256 of the bundle as 64 hexadecimal digits."""
    return hashlib.sha256(bundle).hexdigest()


def differing_files(bundle: bytes, installed: dict[str, str]) -> list[str]:
    """Return the source files in which bundle and installed application differ, sorted; [] if there are none."""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
            if sum(file.file_size for file in opened.infolist()) > MAX_UNPACKED_BYTES:
                return ["the whole bundle"]
            sent = {
                name: hashlib.sha256(opened.read(name)).hexdigest()
                for name in opened.namelist()
                if name.endswith(".py")
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):  # RuntimeError: encrypted
        return ["the whole bundle"]
    return sorted(name for name in sent.keys() | installed.keys() if sent.get(name) != installed.get(name))
