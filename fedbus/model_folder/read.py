"""Read a model folder; every problem is an error that names the file and what to do."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from fedbus.errors import RunError, listed
from fedbus.model_folder.facts import FORMAT, ModelFacts, Part
from fedbus.model_folder.seen import Seen
from fedbus.models.state import State
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.folder import is_run
from fedbus.system.files import read_json

_COPY_AGAIN = "Copy the whole model folder again from where it was made."


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose `model.json` has been checked and whose files exist.

    Attributes:
        path: The folder.
        facts: The content of its `model.json`.
    """

    path: Path
    facts: ModelFacts

    @property
    def label(self) -> str:
        """A name for people: the arm, and the folder's name where that differs."""
        return self.facts.arm if self.path.name == self.facts.arm else f"{self.facts.arm} ({self.path.name})"

    @property
    def digest(self) -> str:
        """SHA-256 of `model.json`, hexadecimal: it names the digests of all parts, so it tells models apart."""
        return hashlib.sha256((self.path / MODEL_FILE).read_bytes()).hexdigest()

    def load(self, part: Part) -> State:
        """Read the tensors of one part.

        Raises:
            RunError: If the file is missing, or is not the one that `model.json` names.
        """
        path = self.path / part.file
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != part.sha256:
                raise _damaged(path, f"it is not the file that {MODEL_FILE} describes")
            return load(content)
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from error

    def seen(self) -> Seen | None:
        """Read the fingerprints of what the model was trained or chosen on; None if the folder has none.

        Raises:
            RunError: If the file is missing or damaged.
        """
        if self.facts.seen is None:
            return None
        try:
            return Seen.from_tensors(self.load(self.facts.seen))
        except (KeyError, ValueError) as error:
            raise _damaged(self.path / self.facts.seen.file, str(error)) from error


def read_model(path: Path) -> ModelFolder:
    """Read and check the `model.json` of a model folder, and check that its files exist.

    Args:
        path: An arm of a run (`RUN/arms/ARM`), a folder that a site received, or an exported bundle.

    Raises:
        RunError: If the folder is not a model folder, is damaged, was written by a newer version, or has other classes.
    """
    file = path / MODEL_FILE
    if not file.is_file():
        raise _no_model(path)
    try:
        content = read_json(file)
    except RunError as error:  # its remedy is for the files of a run
        raise RunError(error.problem, _COPY_AGAIN) from error
    number = content.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise RunError(
            f"{file} has format {number}, written by version {content.get('fedbus')}; this version reads {FORMAT}.",
            "Update FedBUS, or use the version that wrote the folder.",
        )
    try:
        facts = ModelFacts.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise _damaged(file, f"{where}: {first['msg']}" if where else first["msg"]) from error
    missing = [part.file for part in facts.parts if not (path / part.file).is_file()]
    if missing:
        raise RunError(f"{path} lacks {listed(missing)}, which its {MODEL_FILE} names.", "Copy the whole folder again.")
    return ModelFolder(path, facts)


def _no_model(path: Path) -> RunError:
    """Explain why a path is not a model folder, and which one may be meant."""
    if not path.exists():
        return RunError(f"{path} does not exist.", f"Check the path; relative ones start at {Path.cwd()}.")
    if path.is_dir() and is_run(path):
        arms = sorted(file.parent.relative_to(path).as_posix() for file in path.glob(f"arms/**/{MODEL_FILE}"))
        if arms:
            return RunError(f"{path} is a run with several models.", f"Name one of them: {path}/{listed(arms, 12)}.")
        return RunError(
            f"{path} is a run without models.", "Finish it: rerun its `fedbus compare` command with --resume."
        )
    seeds = sorted(str(file.parent) for file in path.glob(f"*/{MODEL_FILE}")) if path.is_dir() else []
    if seeds:
        return RunError(f"{path} contains {len(seeds)} models.", f"Name one of them: {listed(seeds, 12)}.")
    if (path / "done.json").is_file():
        return RunError(
            f"{path} has no {MODEL_FILE}: it was trained by an earlier version, or has no model of its own.",
            "Rerun its `fedbus compare` command with --resume, which writes the file; a blended arm is no single "
            "model, so name one of the two that it blends.",
        )
    if (path / "model.safetensors").is_file() and (path / "metrics.json").is_file():
        return RunError(
            f"{path} has no {MODEL_FILE}: the site received it with an earlier version.",
            "Ask the coordinator for the run's arm (RUNS/RUN/arms/ARM), after a rerun of `fedbus hub run` with "
            "--resume, which writes the file there.",
        )
    return RunError(
        f"{path} is not a model folder: it has no {MODEL_FILE}.",
        "Name an arm of a run (RUN/arms/ARM), a folder that a site received, or an exported bundle.",
    )


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged ({why}).", _COPY_AGAIN)
