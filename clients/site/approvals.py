"""What a site's operator allows to run there, in approved.json: studies, and applications for any study.

The file is a list in the order of approval. Its entries are digests of applications (any study, the only kind of
version 0.1), or objects that name a study, its application and the time of the approval.
"""

import re
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from fedbus.audit.log import AuditLog
from fedbus.deployment.private_folder import read_validated_json
from fedbus.errors import RunError
from fedbus.system.files import write_json
from fedbus.system.locks import hold

_DIGEST = "[0-9a-f]{64}"

Digest = Annotated[str, Field(pattern=f"^{_DIGEST}$")]
"""SHA-256 as 64 lower-case hexadecimal digits."""


@dataclass(frozen=True)
class ApprovedStudy:
    """A study that may run.

    Attributes:
        study: Digest of the study, which covers its application.
        application: Digest of the application.
        approved: Time of the approval, ISO 8601 in UTC.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    study: Digest
    application: Digest
    approved: str


_LAYOUT: TypeAdapter[list[Digest | ApprovedStudy]] = TypeAdapter(list[Digest | ApprovedStudy])


@dataclass(frozen=True)
class Approvals:
    """What may run at a site.

    Attributes:
        applications: Digests of the applications that may run any study.
        studies: The approved studies.
    """

    applications: tuple[str, ...]
    studies: tuple[ApprovedStudy, ...]

    def allow(self, application: str, study: str) -> bool:
        """Return whether a study of an application may run."""
        return application in self.applications or any(each.study == study for each in self.studies)

    @property
    def digests(self) -> tuple[str, ...]:
        """All digests that can be withdrawn."""
        return (*self.applications, *(each.study for each in self.studies))


def read_approvals(path: Path) -> Approvals:
    """Read what may run.

    Raises:
        RunError: If the file is missing or damaged.
    """
    entries = read_validated_json(path, _LAYOUT)
    applications = tuple(entry for entry in entries if isinstance(entry, str))
    return Approvals(applications, tuple(entry for entry in entries if isinstance(entry, ApprovedStudy)))


def approve_application(path: Path, digest: str) -> None:
    """Allow an application to run any study, unless it is already allowed.

    Raises:
        RunError: If it is not a digest, or the file can't be read or written.
    """
    check_digest(digest)
    with _lock(path):
        if digest not in read_approvals(path).applications:
            AuditLog(path.parent).record("approve any study", application=digest)
            _write(path, [*read_validated_json(path, _LAYOUT), digest])


def approve_study(path: Path, study: str, application: str) -> None:
    """Allow a study of an application, unless it is already allowed.

    Raises:
        RunError: If one of them is not a digest, or the file can't be read or written.
    """
    check_digest(study)
    check_digest(application)
    with _lock(path):
        if study not in read_approvals(path).digests:
            entry = ApprovedStudy(study, application, datetime.now(UTC).isoformat(timespec="seconds"))
            AuditLog(path.parent).record("approve", study=study, application=application)
            _write(path, [*read_validated_json(path, _LAYOUT), entry])


def withdraw(path: Path, digest: str) -> None:
    """Remove the approval of a study, or of an application for any study.

    Raises:
        RunError: If it is not a digest or not approved, or the file can't be read or written.
    """
    check_digest(digest)
    with _lock(path):
        approvals = read_approvals(path)
        if digest not in approvals.digests:
            known = ", ".join(approvals.digests) or "none yet"
            raise RunError(f"{path} does not approve {digest}.", f"Name one of: {known}.")
        kind = "application" if digest in approvals.applications else "study"
        AuditLog(path.parent).note("withdraw", **{kind: digest})
        entries = read_validated_json(path, _LAYOUT)
        _write(path, [entry for entry in entries if digest != (entry if isinstance(entry, str) else entry.study)])


def check_digest(digest: str) -> None:
    """Check that a text is a whole digest.

    Raises:
        RunError: If it is not, such as a part of one, or one in capitals.
    """
    if not re.fullmatch(_DIGEST, digest):
        raise RunError(
            f"{digest!r} is not a digest (64 digits and letters a to f).",
            "Copy all of it from `fedbus hub run`, and compare it with the hub's operator, for example by telephone.",
        )


def _write(path: Path, entries: list[Digest | ApprovedStudy]) -> None:
    write_json(path, [entry if isinstance(entry, str) else asdict(entry) for entry in entries])


def _lock(path: Path) -> AbstractContextManager[None]:
    """Let one process at a time change the file, so that no approval is lost."""
    return hold(path.parent / ".approvals", f"{path} is being changed", "Try again when that has finished.")
