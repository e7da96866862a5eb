"""The messages between hub and sites, apart from weights: instructions to sites, and their registrations.

What a site reports is in `report.py`. Every message is checked by its receiver; `allow_list.py` lists everything that a
message from a site may contain. Flower is not used here: records are plain mappings.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fedbus.classes import CLASSES
from fedbus.deployment.roster import read_roster
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.group_sums import MOST_IMAGES
from fedbus.evaluation.temperature import GRID
from fedbus.settings.schema import Settings
from fedbus.settings.site_name import check_site_name
from fedbus.sites.split import SPLITS
from fedbus.text import plain_text
from fedbus.training.federation import FederationRows
from fedbus.transport.read_values import (
    not_valid,
    read_calibration,
    read_federation,
    read_settings,
)

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
"""Names of the records in a message."""

ROUND, PROXIMAL_MU = "server-round", "proximal-mu"
"""Keys of an instruction that Flower's strategies add."""

RUN = r"[0-9a-f]{0,16}"
"""Pattern of the code that distinguishes a run from another of the same name."""

MOST_LABELS, MOST_OF_A_LABEL = 20, 40
"""More classes, and longer names, than a site of another version can have; they are only printed."""

SCORED = ("validation", "test")
"""The splits on which a site scores a model."""

TRAINING, EVALUATION = "training", "evaluation"
"""The tasks of an instruction: a training with its tests, or the test of a model that the coordinator gives."""

SEEN = "seen"
"""Name of the record with the hashes of the images that a given model was trained or chosen on, and of its array."""

MOST_SEEN = 200_000
"""Hashes of 32 bytes that come with a given model: 6.4 MB."""

MODEL = r"([0-9a-f]{64})?"
"""Pattern of the digest of a model."""

MODEL_MISSING = 410
"""Error code of a site that no longer has the model of its last evaluation; the hub then sends it."""

LIKELIHOODS, BINS = "likelihoods", "bins"
COLLECTED = (LIKELIHOODS, BINS)
"""What an evaluation on validation rows collects for the calibration: sums by temperature, or counts by probability."""

TITLE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Pattern of a name that is safe as the name of a folder at a site."""


@dataclass(frozen=True)
class Instruction:
    """What the server instructs a site to do.

    Attributes:
        settings: The settings, without paths and names of sites.
        seed: The training seed.
        classes: The classes that at least one site of the federation has, as positions in `CLASSES`.
        federation: Sums over the sites; None in the request for a registration, from which they are made.
        split: Which rows an evaluation is about.
        title: Names the run, arm and seed, and the folder in which a site keeps the model that it receives.
        arm: The arm of the comparison.
        task: `TRAINING` or `EVALUATION`.
        run: Distinguishes the run from an earlier one with that title; empty if each run has its own folder.
        round: The round of a training, from 1; for an evaluation, the round that the model comes from.
        proximal_mu: FedProx's mu, 0 for every other strategy.
        collect: What an evaluation collects besides scores: `LIKELIHOODS`, `BINS` or nothing.
        temperature: The temperature at which `BINS` are counted.
        calibration: The calibration of the model that is tested; None if it was not calibrated.
        sites: The sites of a deployed study with their public keys: see `fedbus.deployment.roster`.
        model: The digest of the model that a deployed site evaluates, see `fedbus.models.state.state_digest`; without
            arrays, the message is about the model of the last evaluation. Empty: every message has its model.
    """

    settings: Settings
    seed: int
    classes: tuple[int, ...]
    split: str = "validation"
    title: str = "run"
    round: int = 0
    proximal_mu: float = 0.0
    run: str = ""
    federation: FederationRows | None = None
    arm: str = ""
    task: str = TRAINING
    collect: str = ""
    temperature: float = 1.0
    calibration: Calibration | None = None
    sites: tuple[str, ...] = ()
    model: str = ""

    @property
    def memory(self) -> str:
        """The name under which a site stores what it needs in later rounds; it differs between runs."""
        return f"{self.title}-{self.run}" if self.run else self.title

    def to_config(self) -> dict[str, Any]:
        """Return the instruction as a config record; the strategy adds round and mu."""
        federation = self.federation
        return {
            "settings": self.settings.for_sites(),
            "seed": self.seed,
            "classes": list(self.classes),
            "class-counts": list(federation.class_counts) if federation else [],
            "balanced-rows": federation.balanced if federation else 0,
            "split": self.split,
            "title": self.title,
            "run": self.run,
            "arm": self.arm,
            "task": self.task,
            "collect": self.collect,
            "temperature": self.temperature,
            "calibration": self.calibration.model_dump_json() if self.calibration else "",
            "sites": list(self.sites),
            "model": self.model,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read and check an instruction at the site.

        Raises:
            RunError: If a key is missing or a value is out of range.
            SettingsError: If a setting is not valid.
        """
        try:
            instruction = cls(
                settings=read_settings(str(config["settings"])),
                seed=int(config["seed"]),
                classes=tuple(int(c) for c in config["classes"]),
                federation=read_federation(config),
                split=str(config["split"]),
                title=str(config["title"]),
                run=str(config["run"]),
                arm=str(config["arm"]),
                task=str(config["task"]),
                round=int(config.get(ROUND, 0)),
                proximal_mu=float(config.get(PROXIMAL_MU, 0.0)),
                collect=str(config["collect"]),
                temperature=float(config["temperature"]),
                calibration=read_calibration(str(config["calibration"])),
                sites=tuple(str(line) for line in config["sites"]),
                model=str(config["model"]),
            )
            read_roster(instruction.sites)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise not_valid("The server's instruction", error) from error
        names = [instruction.title, *([instruction.arm] if instruction.arm else [])]
        if not all(re.fullmatch(TITLE, name) for name in names) or not re.fullmatch(RUN, instruction.run):
            raise not_valid("The server's instruction", "its title, arm or run is not safe as the name of a folder")
        valid = instruction.split in SCORED and instruction.task in (TRAINING, EVALUATION)
        valid = valid and set(instruction.classes) <= set(range(len(CLASSES)))
        valid = valid and re.fullmatch(MODEL, instruction.model) is not None
        in_time = 0 <= instruction.round <= instruction.settings.rounds
        calibrates = GRID[0] <= instruction.temperature <= GRID[-1] and (
            # Temperature and threshold are never fitted to test rows.
            not instruction.collect or (instruction.collect in COLLECTED and instruction.split == "validation")
        )
        if not valid or not in_time or not calibrates or not 0 <= instruction.proximal_mu < math.inf:
            raise not_valid("The server's instruction", "a value is out of range")
        return instruction


@dataclass(frozen=True)
class Registration:
    """What a site reports about itself before the first round: counts only, no image and no patient.

    Attributes:
        site: The site's name.
        labels: The classes that it knows, in the order of its labels.
        image_size: The side length of its prepared images in pixels.
        splits: The number of images of each class in each split, in the order of `CLASSES`.
        balanced: The number of training rows of each class after balancing.
        groups: The number of groups of images that must stay together.
        patients: The number of known patients, 0 if no image names one.
        dropped: The number of images left out as duplicates.
        phantoms: Whether its images are synthetic.
    """

    site: str
    labels: tuple[str, ...]
    image_size: int
    splits: dict[str, tuple[int, ...]]
    balanced: tuple[int, ...]
    groups: int
    patients: int
    dropped: int
    phantoms: bool = False

    def to_records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the config and the metrics of the reply."""
        counts = {f"images-{split}": list(self.splits[split]) for split in SPLITS}
        numbers = {"image-size": self.image_size, "balanced": list(self.balanced), "groups": self.groups}
        numbers |= {"patients": self.patients, "dropped": self.dropped, "phantoms": int(self.phantoms)}
        return {"site": self.site, "labels": list(self.labels)}, counts | numbers

    @classmethod
    def from_records(cls, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Self:
        """Read and check a registration at the server.

        Raises:
            RunError: If a key is missing or a value is out of range.
        """
        try:
            check_site_name(str(config["site"]))
            registration = cls(
                site=str(config["site"]),
                labels=tuple(plain_text(label, MOST_OF_A_LABEL) for label in config["labels"][:MOST_LABELS]),
                image_size=int(metrics["image-size"]),
                splits={split: tuple(int(count) for count in metrics[f"images-{split}"]) for split in SPLITS},
                balanced=tuple(int(count) for count in metrics["balanced"]),
                groups=int(metrics["groups"]),
                patients=int(metrics["patients"]),
                dropped=int(metrics["dropped"]),
                phantoms={0: False, 1: True}[metrics["phantoms"]],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise not_valid("A site's registration", error) from error
        rows = [*registration.splits.values(), registration.balanced]
        numbers = [
            *(count for row in rows for count in row),
            registration.groups,
            registration.patients,
            registration.dropped,
        ]
        if any(len(row) != len(CLASSES) for row in rows) or min(numbers) < 0 or max(numbers) > MOST_IMAGES:
            raise not_valid("A site's registration", "a value is out of range")
        # Every sampler brings each class at most to the size of the largest one; ADASYN exceeds it a little.
        if max(registration.balanced) > 2 * max(registration.splits["train"]):
            raise not_valid("A site's registration", "it has more balanced rows than its images allow")
        return registration

    @property
    def classes(self) -> set[int]:
        """The classes that this site trains on, as positions in `CLASSES`."""
        return {index for index, count in enumerate(self.splits["train"]) if count}

    def mismatch(self, settings: Settings) -> str:
        """Return why what the site prepared does not match the settings; empty if it does."""
        if self.labels != CLASSES:
            return f"{self.site} has the classes {', '.join(self.labels)}, not {', '.join(CLASSES)}"
        if self.image_size != settings.image_size:
            return f"{self.site} prepared images of {self.image_size} pixels, not {settings.image_size}"
        return ""
