"""The applications that a site's operator lets run there, by digest, in approved.json."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from fedbus.deployment.private_folder import read_json
from fedbus.errors import RunError
from fedbus.system.files import write_json

_DIGEST = "[0-9a-f]{64}"

_LAYOUT = TypeAdapter(list[Annotated[str, Field(pattern=f"^{_DIGEST}$")]])


def read_approved(path: Path) -> tuple[str, ...]:
    """Digests (SHA-256, 64 hexadecimal digits in lower case) in order of approval.

    Raises:
        RunError: the file is missing or damaged.
    """
    approved = read_json(path, _LAYOUT)
    return tuple(approved)


def approve(path: Path, digest: str) -> None:
    """Add a digest; one that is there already changes nothing.

    Raises:
        RunError: it is no digest, or the file can't be read or written.
    """
    _check(digest)
    approved = read_approved(path)
    if digest not in approved:
        write_json(path, [*approved, digest])


def withdraw(path: Path, digest: str) -> None:
    """Take a digest out.

    Raises:
        RunError: it is no digest or not approved, or the file can't be read or written.
    """
    _check(digest)
    approved = read_approved(path)
    if digest not in approved:
        raise RunError(
            f"{path} approves no application {digest}.", f"Name one of: {', '.join(approved) or 'none yet'}."
        )
    write_json(path, [known for known in approved if known != digest])


def _check(digest: str) -> None:
    if not re.fullmatch(_DIGEST, digest):
        raise RunError(
            f"{digest!r} is no application's digest (64 digits and letters a to f).",
            "Copy it whole, as `fedbus hub run` shows it and the hub's operator tells you by another way.",
        )
