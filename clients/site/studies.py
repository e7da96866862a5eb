"""The studies that a hub has asked a site to take part in, in the site's folder `studies`: one file per digest.

Each is written when the hub first asks, whole or not at all, so that the operator can read it before it is approved.
"""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fedbus.errors import FedbusError, RunError
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from fedbus.text import plain_text
from fedbus.transport.messages import EVALUATION
from fedbus.transport.study import Study

MOST_PENDING = 20
"""Studies that are stored without an approval; of more, those that the hub asked about longest ago go."""

MOST_BYTES = 1 << 20
"""Of a file; the list of 1000 sites has 160 KB, the settings 3 KB."""


@dataclass(frozen=True)
class StudyRequest:
    """A study that a hub has asked about.

    Attributes:
        study: The study.
        installed: Whether its application was the installed one when the hub last asked.
    """

    study: Study
    installed: bool


def check_size(study: Study) -> None:
    """Check that a study is not too large to be stored.

    Raises:
        ValueError: If it is.
    """
    if len(json.dumps(study.to_json(), indent=2)) > MOST_BYTES // 2:
        raise ValueError("the study is too large")


def record_request(folder: Path, request: StudyRequest, approved: Collection[str]) -> None:
    """Store a study, and remove those without an approval that the hub asked about longest ago.

    Args:
        folder: The folder of the studies.
        request: The study.
        approved: Digests of the approved studies, which stay.

    Raises:
        RunError: If the disk is full.
    """
    path = _path(folder, request.study.digest)
    content = {"study": request.study.to_json(), "installed": request.installed}
    if path.is_file() and _is_current(path, request):
        os.utime(path)
    else:
        write_json(path, content)
    pending = [other for other in folder.glob("*.json") if other.stem not in approved and other != path]
    for old in sorted(pending, key=lambda other: other.stat().st_mtime)[: max(0, len(pending) + 1 - MOST_PENDING)]:
        old.unlink(missing_ok=True)


def read_request(folder: Path, digest: str) -> StudyRequest:
    """Read a stored study.

    Raises:
        RunError: If there is none of that digest, or its file is damaged.
    """
    path = _path(folder, digest)
    if not path.is_file():
        raise RunError(f"The hub has not asked about study {digest}.", "Name one that `fedbus site status` shows.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        content = read_json(path)
        study = Study.from_json(content["study"])
        if study.digest != digest:
            raise ValueError("its content has another digest")
        return StudyRequest(study, bool(content["installed"]))
    except (FedbusError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}).", "Delete it; a hub that waits asks again within seconds."
        ) from error


def read_pending(folder: Path, approved: Collection[str]) -> list[StudyRequest]:
    """Read the studies without an approval, the one that the hub asked about last at the end.

    Raises:
        RunError: If a file is damaged.
    """
    paths = [path for path in folder.glob("*.json") if path.stem not in approved]
    return [read_request(folder, path.stem) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def describe_briefly(request: StudyRequest) -> str:
    """Return a study in one line, for lists."""
    study, settings = request.study, request.study.full_settings()
    what = "tests of given models" if study.task == EVALUATION else describe_training(settings)
    return plain_text(f"{settings.model}, {settings.image_size} pixels, {what}, {len(study.sites)} sites")


def describe_training(settings: Settings) -> str:
    """Return the rounds, arms and seeds of a training in words."""
    seeds = f"seed {settings.seeds[0]}" if len(settings.seeds) == 1 else f"each of {len(settings.seeds)} seeds"
    return f"training, {settings.rounds} rounds of {', '.join(settings.arms)} with {seeds}"


def _path(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.json"


def _is_current(path: Path, request: StudyRequest) -> bool:
    try:
        return read_request(path.parent, path.stem) == request
    except RunError:
        return False
