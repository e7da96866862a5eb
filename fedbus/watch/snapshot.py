"""What a run has done so far, read from its folder: no image, model, split or prediction is opened."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedbus.errors import FedbusError
from fedbus.runs.arm_files import DONE_FILE, HISTORY_FILE, arm_path
from fedbus.runs.folder import SETTINGS_FILE, is_run, read_settings
from fedbus.runs.lock import RUNNING
from fedbus.settings.arms import is_blended, is_tuned, tuning_rounds
from fedbus.settings.schema import Settings
from fedbus.system.locks import is_held
from fedbus.watch.run_files import RunFiles

Line = dict[str, Any]

RunState = Literal["not started", "preparing", "waiting", "training", "scoring", "finished", "interrupted", "failed"]

REPORT_FILE, SITES_FILE = "report.html", "sites.json"


@dataclass(frozen=True)
class Training:
    """One arm and one seed.

    Attributes:
        arm: The arm's name.
        seed: The training seed.
        total: Its number of rounds; of a fine-tuned arm those of all sites together, of a blended one 0.
        done: How many are finished.
        lines: One dict per finished round; empty for fine-tuned arms.
        best_round: The best round, once the arm is finished.
        finished: Whether it was trained to its end.
        round_seconds: How long its last rounds took on average; None before the first.
    """

    arm: str
    seed: int
    total: int
    done: int
    lines: tuple[Line, ...] = ()
    best_round: int | None = None
    finished: bool = False
    round_seconds: float | None = None


@dataclass(frozen=True)
class SiteState:
    """A site of a hub.

    Attributes:
        name: The site's name.
        connection: Whether it is connected, as Flower names it: `online`, `offline`, or `unknown`.
        images: Its number of images; None before it has registered.
    """

    name: str
    connection: str
    images: int | None = None


@dataclass(frozen=True)
class HubView:
    """What only the hub of a deployed run knows.

    Attributes:
        state: The run's state.
        words: A description for people: which sites the run waits for, or why it failed.
        remedy: What to do about a failure.
        sites: The approved sites.
        phantoms: Whether the images are synthetic; None before the sites have registered.
    """

    state: RunState
    words: str
    remedy: str = ""
    sites: tuple[SiteState, ...] = ()
    phantoms: bool | None = None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        state: Its state.
        settings: Its settings; None before it has started.
        trainings: All arms and seeds, in the order in which they train.
        words: A description for people.
        remedy: What to do next, if something is wrong.
        phantoms: Whether the images are synthetic.
        report: Whether the report is written.
        sites: The sites of a hub.
        damaged: Names of files that can't be read at the moment.
    """

    state: RunState
    settings: Settings | None = None
    trainings: tuple[Training, ...] = ()
    words: str = ""
    remedy: str = ""
    phantoms: bool = False
    report: bool = False
    sites: tuple[SiteState, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass
class RunReader:
    """Reads a run folder again and again.

    Attributes:
        out: The run folder; it need not exist yet.
        hub: Describes what the hub knows; None for a simulation.
    """

    out: Path
    hub: Callable[[], HubView | None] = lambda: None
    files: RunFiles = field(default_factory=RunFiles)

    def read(self) -> Snapshot:
        """Return the present state of the run."""
        if not is_run(self.out):
            return Snapshot("not started")
        try:
            settings = self.files.read(self.out / SETTINGS_FILE, lambda text: read_settings(self.out))
            settings = settings or read_settings(self.out)  # a run of version 0.1
        except FedbusError as error:
            return Snapshot("failed", words=error.problem, remedy=error.remedy)
        hub, report = self.hub(), (self.out / REPORT_FILE).is_file()
        names = tuple(site.name for site in hub.sites) if hub else self._site_names(settings)
        trainings = tuple(self._training(settings, arm, seed, names) for arm, seed in _arms(settings, names))
        if hub:
            state, words, remedy = hub.state, hub.words, hub.remedy
            phantoms = bool(hub.phantoms)
        else:
            state = self._state(trainings, report)
            words, remedy = "", "Rerun its command with --resume." if state == "interrupted" else ""
            phantoms = not settings.sites or any(source.reader == "phantoms" for source in settings.sites.values())
        damaged = tuple(sorted(path.relative_to(self.out).as_posix() for path in self.files.damaged))
        sites = hub.sites if hub else ()
        return Snapshot(state, settings, trainings, words, remedy, phantoms, report, sites, damaged)

    def _site_names(self, settings: Settings) -> tuple[str, ...]:
        """The names of the sites; phantoms are named only in the facts about the prepared sites."""
        found = self.files.read(self.out / SITES_FILE, json.loads) if not settings.sites else settings.sites
        return tuple(found or ())

    def _state(self, trainings: tuple[Training, ...], report: bool) -> RunState:
        finished = all(training.finished for training in trainings)
        if not is_held(self.out / RUNNING):
            return "finished" if finished and report else "interrupted"
        if finished:
            return "scoring"
        return "training" if any(training.done for training in trainings) else "preparing"

    def _training(self, settings: Settings, arm: str, seed: int, sites: tuple[str, ...]) -> Training:
        folder = arm_path(self.out, settings, arm, seed)
        facts = self.files.read(folder / DONE_FILE, json.loads)
        if is_tuned(arm):
            parts = [self._lines(folder / site) for site in sites]
            lines = [line for part in parts for line in part]
            return Training(
                arm, seed, tuning_rounds(settings.rounds) * len(sites), len(lines), (), None, bool(facts),
                _round_seconds(lines),
            )  # fmt: skip
        lines = self._lines(folder)
        total = 0 if is_blended(arm) else settings.rounds
        return Training(
            arm, seed, total, len(lines), tuple(lines), (facts or {}).get("best_round"), bool(facts),
            _round_seconds(lines),
        )  # fmt: skip

    def _lines(self, folder: Path) -> list[Line]:
        found = self.files.read(folder / HISTORY_FILE, lambda text: [json.loads(line) for line in text.splitlines()])
        return list(found or ())


def _arms(settings: Settings, sites: tuple[str, ...]) -> list[tuple[str, int]]:
    """List arms and seeds; `local` becomes one arm per site, once the sites are known."""
    names: list[str] = []
    for arm in settings.arms:
        names += [f"local-{site}" for site in sites] if arm == "local" and sites else [arm]
    return [(name, seed) for seed in settings.seeds for name in names]


def _round_seconds(lines: list[Line]) -> float | None:
    last = [float(line["seconds"]) for line in lines[-5:] if "seconds" in line]
    return sum(last) / len(last) if last else None
