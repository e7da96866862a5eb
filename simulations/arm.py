"""One arm of a comparison."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.settings.arms import STRATEGIES, is_blended, is_tuned

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


@dataclass(frozen=True)
class Arm:
    """One arm of the comparison, for one seed.

    Attributes:
        name: `local-SITE`, `centralised`, a strategy such as `fedavg`, `STRATEGY-tuned`, or
            `centralised-blended` and `STRATEGY-blended`.
        seed: The training seed.
        folder: Files of the arm.
    """

    name: str
    seed: int
    folder: ArmFolder

    @property
    def federated(self) -> bool:
        """Whether the arm runs on Flower."""
        return self.name in STRATEGIES

    @property
    def title(self) -> str:
        """Name of the training, unique in the run; sites store their state under it."""
        return f"{self.name}-seed-{self.seed}"

    @property
    def out(self) -> Path:
        """The run folder that contains the arm."""
        return next(parent for parent in self.folder.path.parents if parent.name == "arms").parent

    @property
    def tuned(self) -> bool:
        """Whether the arm fine-tunes the model of a federated arm at each site."""
        return is_tuned(self.name)

    @property
    def blended(self) -> bool:
        """Whether the arm blends the predictions of another arm and of the sites' own models."""
        return is_blended(self.name)

    @property
    def has_weights(self) -> bool:
        """Whether its folder contains weights: not after `simulations.portable.unpack`, which only has predictions."""
        return any(self.folder.path.rglob("*.safetensors"))

    def trained_at(self, sites: Iterable[str]) -> list[str]:
        """Return those of the sites whose images the arm was trained on."""
        own = self.name.removeprefix("local-")
        return list(sites) if own == self.name else [own]


def list_arms(settings: "Settings", out: Path) -> list[Arm]:
    """List the arms of a comparison, seed by seed; `local` becomes one arm per site."""
    names = [
        name
        for arm in settings.arms
        for name in ([f"local-{site}" for site in settings.sites] if arm == "local" else [arm])
    ]
    return [Arm(name, seed, arm_folder(out, settings, name, seed)) for seed in settings.seeds for name in names]
