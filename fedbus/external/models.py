"""The models of an external validation: their names, and which folders are seeds of one model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus.errors import RunError
from fedbus.model_folder.apply import Arrays, which_arrays
from fedbus.model_folder.read import ModelFolder, read_model
from fedbus.reports.wording import ORIGIN


@dataclass(frozen=True)
class GivenModel:
    """One model, possibly trained with several seeds.

    Attributes:
        name: The arm, followed by where it comes from if two models are of one arm.
        seeds: One model folder per seed.
        arrays: Whose arrays are used.
    """

    name: str
    seeds: tuple[ModelFolder, ...]
    arrays: Arrays

    @property
    def file_names(self) -> list[str]:
        """A part of a file's name for each seed."""
        base = re.sub(r"[^\w.-]+", "-", self.name)
        return [base] if len(self.seeds) == 1 else [f"{base}-seed-{folder.facts.seed}" for folder in self.seeds]


def read_models(paths: Sequence[Path], site: str | None, *, adapt: bool) -> list[GivenModel]:
    """Read model folders and name them.

    Folders of one arm of one run that differ only in their seed are one model.

    Args:
        paths: The model folders.
        site: The site as which all of them are applied; None: as the model for everywhere else.
        adapt: Whether BatchNorm statistics may be estimated from the images.

    Raises:
        RunError: If a folder is no model folder or is named twice, if the site is not known, or if a model needs
            statistics of the images and may not estimate them.
    """
    groups: dict[tuple[str, str, Path], list[ModelFolder]] = {}
    for path in dict.fromkeys(paths):
        folder = read_model(path)
        facts = folder.facts
        several = groups.setdefault((facts.run, facts.arm, _home(path, facts.arm)), [])
        if any(facts.seed == other.facts.seed for other in several):
            raise RunError(f"{path} and {several[0].path} are the same model.", "Name each model once.")
        several.append(folder)
    names = _names([(arm, home) for _, arm, home in groups])
    return [
        GivenModel(name, tuple(seeds), _arrays(seeds, site, adapt=adapt))
        for name, seeds in zip(names, groups.values(), strict=True)
    ]


def _arrays(seeds: Sequence[ModelFolder], site: str | None, *, adapt: bool) -> Arrays:
    """Return whose arrays the seeds of a model use."""
    arrays, *_ = [which_arrays(folder, site) for folder in seeds]
    if arrays == "adapted" and not adapt:
        raise RunError(
            f"{seeds[0].path} has BatchNorm statistics only for its sites, and --no-adapt forbids estimating others.",
            f"Name the site whose statistics fit (--as {' or '.join(seeds[0].facts.sites)}), leave out --no-adapt, or "
            "use a model with shared BatchNorm.",
        )
    return arrays


def _home(path: Path, arm: str) -> Path:
    """The folder of a model without the parts `arms/ARM/seed-N` that a run gives it."""
    found = path.resolve()
    if found.name.startswith("seed-"):
        found = found.parent
    return found.parent.parent if found.name == arm and found.parent.name == "arms" else found


def _names(models: Sequence[tuple[str, Path]]) -> list[str]:
    """Name models by arm; arms that occur twice also by the last parts of their folder that differ."""
    arms = [arm for arm, _ in models]
    names = []
    for arm, home in models:
        others = [other for other_arm, other in models if other_arm == arm and other != home]
        if arms.count(arm) == 1:
            names.append(arm)
            continue
        depth = next(
            (n for n in range(1, len(home.parts)) if all(home.parts[-n:] != other.parts[-n:] for other in others)), 1
        )
        names.append(f"{arm}{ORIGIN}{'/'.join(home.parts[-depth:])}")
    return names
