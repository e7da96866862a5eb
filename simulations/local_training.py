"""Train a model in one place from start to end: a site alone, or the centralised baseline."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fedbus.device import pick_device
from fedbus.evaluation.kept import keep_best, save_last
from fedbus.evaluation.validation import record, score_split
from fedbus.models.build import place_model
from fedbus.models.state import State, get_state, set_state
from fedbus.privacy.plan import epsilon_facts, make_plan
from fedbus.privacy.release import release_digest, release_key, simulated_secret
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from fedbus.sites.site import Site
from fedbus.system.progress import Progress
from fedbus.training.federation import add_steps
from fedbus.training.loop import train_round
from fedbus.training.missing_classes.registry import predictable
from fedbus.training.optimiser import make_optimiser, optimiser_tensors, restore_optimiser
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


@dataclass(frozen=True)
class LocalTraining:
    """The training of one arm and one seed that needs no federation.

    Attributes:
        settings: Settings of the comparison.
        seed: The training seed.
        rows: Training rows.
        validation: Sites whose validation rows choose the best round.
        steps: Optimiser steps per round.
        start: Start weights.
    """

    settings: "Settings"
    seed: int
    rows: TrainingRows
    validation: Sequence[Site]
    steps: int
    start: State

    @property
    def present(self) -> Tensor | None:
        """int64 [K], the classes that the model may predict, see `predictable`; None: all."""
        return predictable(self.rows.present, self.settings)

    def run(
        self,
        folder: ArmFolder,
        progress: Progress = lambda _: None,
        on_round: Callable[[dict[str, Any]], object] = lambda line: None,
    ) -> None:
        """Train all rounds, continuing from a checkpoint if there is one; the optimiser keeps its state between rounds.

        Args:
            folder: Folder of the arm.
            progress: Called with the number of images of every batch; first with those of the checkpoint.
            on_round: Called with the history line of every round, once its checkpoint is written.

        Raises:
            RunError: If the loss is not finite, or a file can't be written.
        """
        settings = self.settings
        model = place_model(settings.model, pick_device(settings.device))
        optimiser = make_optimiser(model, settings)
        at = folder.load() or Checkpoint(0, self.start)
        set_state(model, at.state)
        restore_optimiser(optimiser, at.extra)
        progress(at.round * self.steps * settings.batch_size)
        plan = make_plan(self.rows, settings, self.steps) if settings.dp_epsilon else None
        for number in range(at.round + 1, settings.rounds + 1):
            started = time.monotonic()
            loss = self._train_round(model, optimiser, number, progress)
            scores = {
                site.name: score_split(model, site, "validation", settings, self.present) for site in self.validation
            }
            at.round, at.state = number, get_state(model)
            keep_best(at, scores.values(), folder)
            at.history.append(
                {
                    "round": number,
                    "train_loss": loss,
                    "seconds": time.monotonic() - started,
                    **({"epsilon": {self.rows.owner: plan.epsilon(number)}} if plan else {}),
                    **record(scores),
                }
            )
            at.extra = optimiser_tensors(optimiser)
            folder.save(at)
            on_round(at.history[-1])
        save_last(at, folder)
        folder.finish(
            {
                "steps": settings.rounds * self.steps,
                "best_round": at.best_round,
                "seconds": sum(line["seconds"] for line in at.history),
                "classes": self.present.tolist() if self.present is not None else None,
                **epsilon_facts(at.history),
            }
        )

    def _train_round(self, model: nn.Module, optimiser: Optimizer, number: int, progress: Progress) -> float | None:
        """Train one round; return its mean loss, or None with differential privacy."""
        if not self.settings.dp_epsilon:
            return train_round(
                model, self.rows, self.settings, seed=self.seed, round_number=number, steps=self.steps,
                optimiser=optimiser, progress=progress,
            )  # fmt: skip
        from fedbus.privacy.dp_sgd import train_private_round  # imports Opacus

        digest = release_digest(
            get_state(model), optimiser_tensors(optimiser), self.rows, self.settings,
            seed=self.seed, round_number=number, steps=self.steps, proximal_mu=0.0,
        )  # fmt: skip
        train_private_round(
            model, self.rows, self.settings, make_plan(self.rows, self.settings, self.steps),
            key=release_key(simulated_secret(self.seed), digest),
            seed=self.seed, round_number=number, optimiser=optimiser, progress=progress,
        )  # fmt: skip
        return None


def centralised_steps(settings: "Settings", rows: Mapping[str, TrainingRows]) -> int:
    """Optimiser steps per round of the centralised arm: as many images as all sites use, in batches of `batch-size`.

    Args:
        settings: The settings.
        rows: The rows that each site trains on in the federation.
    """
    return add_steps((site.steps_per_round(settings) for site in rows.values()), settings.batches)
