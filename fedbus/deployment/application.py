"""The application that hub and sites must have in common: which files it is, and how a bundle differs from them."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

PACKAGES = ("fedbus", "server", "clients")
"""What of FedBUS travels in Flower's bundle; studies and reports stay at home."""

NOT_ALLOWED, OTHER_VERSION = 403, 409
"""Codes of a site's errors: its operator has not approved the application (the hub waits until that is done), or it
is approved and not what is installed there."""

ROOT = Path(__file__).parents[2]


def installed_files() -> dict[str, str]:
    """SHA-256 of every source file of the installed application, by path in the bundle."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def digest_of(bundle: bytes) -> str:
    """What an operator approves: SHA-256 of the bundle, 64 hexadecimal digits."""
    return hashlib.sha256(bundle).hexdigest()


def differing_files(bundle: bytes, installed: dict[str, str]) -> list[str]:
    """Source files that the bundle and the installed application do not share, sorted; [] if they are the same."""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
            sent = {
                name: hashlib.sha256(opened.read(name)).hexdigest()
                for name in opened.namelist()
                if name.endswith(".py")
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):  # RuntimeError: a password
        return ["the whole bundle"]
    return sorted(name for name in sent.keys() | installed.keys() if sent.get(name) != installed.get(name))
