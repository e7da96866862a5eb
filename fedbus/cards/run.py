"""A finished run as its card describes it: the results, the settings, and the models' scores at other sites."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from fedbus.cards.elsewhere import Elsewhere, read_elsewhere, well_formed
from fedbus.errors import RunError, listed
from fedbus.evaluation.kept import FILES
from fedbus.model_folder.facts import ModelFacts
from fedbus.model_folder.read import read_model
from fedbus.reports import wording
from fedbus.reports.comparison.results import RESULTS_FILE, read_results
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.runs.folder import is_run, read_settings
from fedbus.settings.arms import is_blended, is_tuned
from fedbus.settings.schema import Settings
from fedbus.sites.site import SITES_FILE
from fedbus.system.files import read_json

NEEDED = {
    "fedbus": str, "phantoms": bool, "classes": list, "sites": dict, "arms": dict, "settings": dict,
    "versions": dict, "machine": dict, "created": str, "weights": str,
}  # fmt: skip
"""Keys of `results.json` without which no card can be written, with their types."""

RESTORE = "Restore the file, or rerun the run's command with --resume, which writes it again."

INSIDE = ("*", "*/*", "*/*/*")
"""Where runs are in a folder of several, such as STUDY/cells/CELL/fold-0."""


@dataclass(frozen=True)
class FinishedRun:
    """A run whose arms are all scored.

    Attributes:
        path: The run folder.
        results: Content of `results.json`.
        settings: The settings that the run was recorded with.
        elsewhere: How its models did at sites that took no part in it.
    """

    path: Path
    results: dict[str, Any]
    settings: Settings
    elsewhere: tuple[Elsewhere, ...]

    @property
    def sites(self) -> dict[str, dict[str, Any]]:
        """Facts about each site."""
        found: dict[str, dict[str, Any]] = self.results["sites"]
        return found

    @property
    def phantoms(self) -> bool:
        """Whether the images are synthetic."""
        return bool(self.results["phantoms"])

    @property
    def deployed(self) -> bool:
        """Whether the images stayed at the sites, so that the run folder contains only counts."""
        return wording.apart(self.results)

    @property
    def totals_only(self) -> bool:
        """Whether the hub has only sums over the sites (secure aggregation)."""
        return wording.totals_only(self.results)

    @property
    def weights_file(self) -> str:
        """Name of the weights that were tested, in each arm's folder."""
        return f"{FILES[self.settings.keep]}.safetensors"

    @cached_property
    def folders(self) -> dict[str, list[ArmFolder]]:
        """The folders of the arms, one per seed; a cell of a study may lack some."""
        found = {
            arm: [arm_folder(self.path, self.settings, arm, seed) for seed in self.settings.seeds]
            for arm in wording.ordered_arms(self.results)
        }
        return {arm: folders for arm, folders in found.items() if all(folder.path.is_dir() for folder in folders)}

    @property
    def trained(self) -> list[Path]:
        """The folders of the arms with a history and weights; tuned and blended arms build on those of others."""
        return [
            folder.path
            for arm, folders in self.folders.items()
            for folder in folders
            if not is_blended(arm) and not is_tuned(arm)
        ]

    @cached_property
    def models(self) -> dict[str, ModelFacts]:
        """By file in the run folder, what a trained model records about itself; runs of earlier versions have none.

        Raises:
            RunError: If a model folder is damaged.
        """
        return {
            self.name(folder / MODEL_FILE): read_model(folder).facts
            for folder in (each.path for folders in self.folders.values() for each in folders)
            if (folder / MODEL_FILE).is_file()
        }

    def name(self, file: Path) -> str:
        """Name a file by its place in the run folder."""
        return file.relative_to(self.path).as_posix()


def read_run(path: Path) -> FinishedRun:
    """Read a finished run: of a comparison, of a cell of a study, or of a hub.

    Raises:
        RunError: If the folder contains no run, the run is not finished, or a file is damaged or of a newer version.
        SettingsError: If a recorded setting is not valid.
    """
    if (path / "cells").is_dir() or not is_run(path):  # a study of version 0.1 looks like a run of that version
        raise _no_run(path)
    settings, file = read_settings(path), path / RESULTS_FILE
    if not file.is_file():
        raise _unfinished(path, settings)
    _check_content(file, read_json(file))
    with well_formed(file, RESTORE):
        results = read_results(path)
        arms = settings.federated_arms if wording.apart(results) else settings.arms
        resumed_with_more_arms = not _expand(arms, list(results["sites"])) <= results["arms"].keys()
    if resumed_with_more_arms:
        raise _unfinished(path, settings)
    return FinishedRun(path, results, settings, read_elsewhere(path))


def _no_run(path: Path) -> RunError:
    """Build the error about a folder that is no run, naming the runs in it, as of a study."""
    inside = sorted(str(file.parent) for depth in INSIDE for file in path.glob(f"{depth}/{RESULTS_FILE}"))
    if inside:
        return RunError(f"{path} is not one run, but has several.", f"Name one of them: {listed(inside)}.")
    return RunError(f"{path} contains no run.", "Name the folder that the run was started with as --out.")


def _check_content(path: Path, results: dict[str, Any]) -> None:
    """Check that results are not of a newer version, and have what every card needs.

    Raises:
        RunError: If they are, or lack a key.
    """
    written, installed = str(results.get("fedbus", "")), metadata.version("fedbus")
    if _numbers(written) > _numbers(installed):
        raise RunError(
            f"{path} was written by FedBUS {written}, which is newer than this version ({installed}).",
            f"Install FedBUS {written} or later.",
        )
    wrong = [key for key, kind in NEEDED.items() if not isinstance(results.get(key), kind)]
    if wrong:
        raise RunError(f"{path} is damaged ({', '.join(wrong)}: missing, or of another type).", RESTORE)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _unfinished(path: Path, settings: Settings) -> RunError:
    """Build the error about a run without complete results, naming the arms that are left."""
    prepared = path / SITES_FILE  # only a hub has none; it trains no local or centralised arm
    sites = list(read_json(prepared)) if prepared.is_file() else list(settings.sites)
    names = sorted(_expand(settings.arms if sites else settings.federated_arms, sites))
    left = [
        name for name in names if not all(arm_folder(path, settings, name, seed).finished for seed in settings.seeds)
    ]
    state = f"still has to train {', '.join(left)}" if left else "is trained, but not scored"
    return RunError(f"{path} is not finished: it {state}.", "Rerun its command with --resume.")


def _expand(arms: Sequence[str], sites: Sequence[str]) -> set[str]:
    """Name arms as the results do: `local` is one arm of each site."""
    return {name for arm in arms for name in ([f"local-{site}" for site in sites] if arm == "local" else [arm])}
