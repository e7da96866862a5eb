"""One arm of a comparison."""

from dataclasses import dataclass
from pathlib import Path

from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.settings.schema import STRATEGIES, Settings, is_tuned


@dataclass(frozen=True)
class Arm:
    """One row of the comparison, for one seed.

    Attributes:
        name: `local-SITE`, `centralised`, a strategy, or STRATEGY-tuned.
        seed: the training seed.
        folder: its files.
    """

    name: str
    seed: int
    folder: ArmFolder

    @property
    def federated(self) -> bool:
        """Whether it runs on Flower."""
        return self.name in STRATEGIES

    @property
    def title(self) -> str:
        """Names its training among those of the run, as sites know it."""
        return f"{self.name}-seed-{self.seed}"

    @property
    def out(self) -> Path:
        """The run folder."""
        return next(parent for parent in self.folder.path.parents if parent.name == "arms").parent

    @property
    def tuned(self) -> bool:
        """Whether it goes on from a federated arm, one model a site."""
        return is_tuned(self.name)


def list_arms(settings: Settings, out: Path) -> list[Arm]:
    """All arms of a study, seed by seed: `local` stands for one arm a site."""
    names = [
        name
        for arm in settings.arms
        for name in ([f"local-{site}" for site in settings.sites] if arm == "local" else [arm])
    ]
    return [Arm(name, seed, arm_folder(out, settings, name, seed)) for seed in settings.seeds for name in names]
