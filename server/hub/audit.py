"""What a hub records of its runs and models in its audit log."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedbus.audit.log import AuditLog, Details
from fedbus.errors import RunError
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.folder import SETTINGS_FILE, run_id
from fedbus.system.files import read_json
from fedbus.text import plain_text
from fedbus.transport.study import STUDY_FILE
from server.hub.folder import SETTINGS, HubFolder
from server.hub.run_status import read_status


@contextmanager
def recorded_run(hub: HubFolder, out: Path, *, resume: bool, model: str = "") -> Iterator[None]:
    """Record that a run starts inside the block, and how it ends.

    Args:
        hub: The hub.
        out: The run folder, with its settings and its study.
        resume: Whether the run was started before.
        model: The digest of the model that an evaluation is about; empty for a training.

    Raises:
        RunError: If the start can't be recorded; then nothing is started.
    """
    kind, announced = "evaluation" if model else "run", read_json(out / STUDY_FILE)
    study = announced["study"]
    run: dict[str, Details] = {"run": out.name, "code": run_id(out)}
    what: dict[str, Details] = {
        "study": announced["digest"], "application": study["application"], "sites": sorted(study["sites"]),
        "settings": _digest_of(out / SETTINGS_FILE),
    }  # fmt: skip
    if model:
        what["model"] = model
    hub.audit.record(f"{kind} {'resumed' if resume else 'started'}", **run, **what)
    try:
        yield
    finally:
        status = None
        with suppress(RunError):  # damaged
            status = read_status(out)
        if status is not None:
            end: dict[str, Details] = {"state": status.state, "reason": plain_text(status.words)}
            end |= {"arm": status.arm, "round": status.round}
            run |= {key: value for key, value in end.items() if value}
        hub.audit.note(f"{kind} ended", **run)


def record_model(out: Path, arm: str, seed: int, folder: Path) -> None:
    """Record the model of an arm, unless the run is in no hub's folder.

    Args:
        out: The run folder.
        arm: The arm.
        seed: The training seed.
        folder: The folder of the model.
    """
    hub = out.resolve().parent.parent  # the process that trains knows only the run folder
    if (hub / SETTINGS).is_file():
        digest = _digest_of(folder / MODEL_FILE)
        AuditLog(hub).note("model written", run=out.name, code=run_id(out), arm=arm, seed=seed, sha256=digest)


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
