"""What `fedbus evaluate` found of a run's models at a site that took no part in the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import RunError
from fedbus.runs.folder import run_id
from fedbus.system.files import read_json

PATTERN = "evaluations/*/evaluation.json"
"""Where `fedbus evaluate` writes in a run folder by default."""


@dataclass(frozen=True)
class Elsewhere:
    """One evaluation.

    Attributes:
        file: Its file in the run folder.
        site: Name of the site.
        images: How many images were tested.
        groups: How many groups they form.
        adapted: Whether a model's BatchNorm statistics were estimated from the tested images.
        aucs: By arm its AUC with interval; None where it is undefined.
    """

    file: str
    site: str
    images: int
    groups: int
    adapted: bool
    aucs: dict[str, dict[str, float] | None]


def read_elsewhere(run: Path) -> tuple[Elsewhere, ...]:
    """Read the evaluations in a run folder that are about models of this run.

    Raises:
        RunError: If a file is damaged.
    """
    found = []
    for path in sorted(run.glob(PATTERN)):
        content = read_json(path)
        with well_formed(path, "Delete its folder, or evaluate the models again."):
            models = {name: model for name, model in content["models"].items() if model["run"] == run_id(run)}
            if models:
                found.append(_describe(path.relative_to(run).as_posix(), content, models))
    return tuple(found)


def _describe(file: str, content: dict[str, Any], models: dict[str, dict[str, Any]]) -> Elsewhere:
    ((site, about),) = content["sites"].items()
    return Elsewhere(
        file=file,
        site=site,
        images=sum(about["splits"]["test"].values()),
        groups=int(about["groups"]),
        adapted=any(model["arrays"] == "adapted" for model in models.values()),
        aucs={model["arm"]: content["arms"][name]["all"]["auc"] for name, model in models.items()},
    )


@contextmanager
def well_formed(path: Path, remedy: str) -> Iterator[None]:
    """Use the content of a file inside the block; if it has another form than any version writes, it is damaged.

    Raises:
        RunError: If it is.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}: {error}).", remedy) from error
