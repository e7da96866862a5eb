"""The applications that a site's operator allows to run there, by digest, in approved.json."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from fedbus.audit.log import AuditLog
from fedbus.deployment.private_folder import read_validated_json
from fedbus.errors import RunError
from fedbus.system.files import write_json

_DIGEST = "[0-9a-f]{64}"

_LAYOUT = TypeAdapter(list[Annotated[str, Field(pattern=f"^{_DIGEST}$")]])


def read_approved(path: Path) -> tuple[str, ...]:
    """Read the approved digests (SHA-256, 64 lower-case hexadecimal digits) in order of approval.

    Raises:
        RunError: If the file is missing or damaged.
    """
    approved = read_validated_json(path, _LAYOUT)
    return tuple(approved)


def approve(path: Path, digest: str) -> None:
    """Add a digest, unless it is already approved.

    Raises:
        RunError: If it is not a digest, or the file can't be read or written.
    """
    _check_digest(digest)
    approved = read_approved(path)
    if digest not in approved:
        AuditLog(path.parent).record("approve", application=digest)
        write_json(path, [*approved, digest])


def withdraw(path: Path, digest: str) -> None:
    """Remove a digest.

    Raises:
        RunError: If it is not a digest or not approved, or the file can't be read or written.
    """
    _check_digest(digest)
    approved = read_approved(path)
    if digest not in approved:
        raise RunError(
            f"{path} does not approve application {digest}.", f"Name one of: {', '.join(approved) or 'none yet'}."
        )
    AuditLog(path.parent).note("withdraw", application=digest)
    write_json(path, [known for known in approved if known != digest])


def _check_digest(digest: str) -> None:
    if not re.fullmatch(_DIGEST, digest):
        raise RunError(
            f"{digest!r} is not the digest of an application (64 digits and letters a to f).",
            "Copy all of it from `fedbus hub run`, and compare it with the hub's operator, for example by telephone.",
        )
