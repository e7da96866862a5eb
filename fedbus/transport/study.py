"""A study: what the operator of a site consents to, and the digest by which hub and site name it.

Hub and site compute the digest separately, the site from the instruction that it was sent. So a hub can't have one
study approved and run another.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fedbus.deployment.roster import fingerprints
from fedbus.runs.folder import MAY_CHANGE
from fedbus.settings.schema import Settings
from fedbus.transport.messages import TRAINING, Instruction
from fedbus.transport.read_values import read_settings

STUDY_FILE = "study.json"
"""In the run folder: the digest of the study, and the study itself."""


@dataclass(frozen=True)
class Study:
    """One study.

    Attributes:
        application: Digest of the application that runs it.
        task: As in `Instruction`.
        settings: The settings that sites are sent, without those that a resumed run may change.
        arms: The arms that are trained; each is a training of its own.
        seeds: The training seeds.
        sites: The fingerprint of each site's key, by name.
    """

    application: str
    task: str
    settings: Mapping[str, Any]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    sites: Mapping[str, str]

    @classmethod
    def of(cls, application: str, task: str, settings: Settings, roster: tuple[str, ...]) -> Self:
        """Describe the study of a run.

        Args:
            application: Digest of the application.
            task: As in `Instruction`.
            settings: The run's settings.
            roster: The sites: see `fedbus.deployment.roster`.

        Raises:
            ValueError: If the list of sites is malformed.
        """
        # Read once more as a site reads them, so that a number is written in one way only: 10 or 10.0.
        sent = json.loads(read_settings(settings.for_sites()).for_sites())
        fixed = {key: value for key, value in sent.items() if key not in MAY_CHANGE | {"arms", "seeds"}}
        return cls(application, task, fixed, tuple(sent["arms"]), tuple(sent["seeds"]), fingerprints(roster))

    @classmethod
    def of_instruction(cls, application: str, instruction: Instruction) -> Self:
        """Describe the study that an instruction belongs to.

        Raises:
            ValueError: If the instruction does not say which sites take part, or is about another arm or seed than
                those of its settings.
        """
        study = cls.of(application, instruction.task, instruction.settings, instruction.sites)
        if not study.sites:
            raise ValueError("it does not list the sites that take part")
        if instruction.task == TRAINING and instruction.arm not in study.arms:
            raise ValueError("it is about an arm that its settings do not have")
        if instruction.seed not in study.seeds:
            raise ValueError("it is about a seed that its settings do not have")
        return study

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: If it is malformed.
            SettingsError: If a setting is not valid.
        """
        study = cls(
            str(content["application"]),
            str(content["task"]),
            dict(content["settings"]),
            tuple(content["arms"]),
            tuple(content["seeds"]),
            {str(name): str(key) for name, key in content["sites"].items()},
        )
        study.full_settings()
        return study

    def full_settings(self) -> Settings:
        """Return the settings with the arms and seeds; what a resumed run may change has its default."""
        values = dict(self.settings) | {"arms": self.arms, "seeds": self.seeds}
        return read_settings(json.dumps(values))

    def to_json(self) -> dict[str, Any]:
        """Return the study with JSON types, from which its digest is computed."""
        return {
            "application": self.application,
            "task": self.task,
            "settings": dict(self.settings),
            "arms": list(self.arms),
            "seeds": list(self.seeds),
            "sites": dict(self.sites),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the study's canonical JSON (sorted keys, no spaces, ASCII) as 64 hexadecimal digits."""
        return _digest(self.to_json())


def training_digest(instruction: Instruction) -> str:
    """Return the digest of one training, by which a site counts what it has released of it: 64 hexadecimal digits.

    It covers settings, arm and seed, which the operator approves. It leaves out what a hub can change without asking:
    the title and the code of the run; and the application and the list of sites, because the same training with
    another list would show the update of the site in which the lists differ.

    Raises:
        ValueError: If the list of sites is malformed.
    """
    settings = Study.of("", instruction.task, instruction.settings, instruction.sites).settings
    return _digest({"settings": settings, "arm": instruction.arm, "seed": instruction.seed})


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
