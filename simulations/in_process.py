"""Federated training without messages: the sites train one after another in this process (`engine=in-process`).

For studies. It trains, stores, resumes and reports as the simulation with Flower does, and ends with the same bits. It
needs neither Flower nor Ray, and so runs where only PyTorch, timm, NumPy, scikit-learn and safetensors are installed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clients.site_training import train_site
from fedbus.device import pick_device
from fedbus.evaluation.kept import kept_round, load_kept, save_last
from fedbus.evaluation.validation import Score, score_split
from fedbus.models.build import place_model
from fedbus.models.state import State, set_state
from fedbus.privacy.ledger import spent_epsilon
from fedbus.privacy.plan import epsilon_facts, make_plan
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from fedbus.runs.history import round_line
from fedbus.runs.site_state import own_model, site_state
from fedbus.settings.privacy_rules import SECURE
from fedbus.sites.site import Site
from fedbus.training.missing_classes.registry import predictable
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import TrainingRows
from fedbus.transport.half_precision import as_received
from fedbus.transport.summed_update import Trained
from server.rounds.classifier import classifier_arrays
from server.rounds.policies import apply_policies
from simulations.combined import Scores, as_reported, combine, describe, keep_best_of

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


@dataclass(frozen=True)
class InProcessTraining:
    """One federated training.

    Attributes:
        settings: The settings.
        out: The run folder, in which the sites store what they need in later rounds.
        sites: The prepared sites, by name.
        rows: The rows that each site trains on.
        arm: `fedavg` or `fedprox`.
        seed: The training seed.
        start: The start weights.
        folder: Where checkpoints and weights are stored.
        title: Name of the training, unique in the run.
    """

    settings: "Settings"
    out: Path
    sites: Mapping[str, Site]
    rows: Mapping[str, TrainingRows]
    arm: str
    seed: int
    start: State
    folder: ArmFolder
    title: str

    @property
    def present(self) -> Tensor | None:
        """The classes that the model may predict, int64 [K]: those that a site trains on; None: all."""
        return predictable(torch.unique(torch.cat([rows.present for rows in self.rows.values()])).cpu(), self.settings)

    def run(self, on_round: Callable[[dict[str, Any]], object] = lambda line: None) -> None:
        """Run the remaining rounds, score the last model, and test the one that `keep` chooses.

        Args:
            on_round: Called with the history line of every finished round.

        Raises:
            RunError: If a loss is not finite, or a file is damaged or can't be written.
        """
        settings, folder = self.settings, self.folder
        checkpoint = folder.load() or Checkpoint(0, self.start)
        for line in checkpoint.history:
            on_round(line)
        for number in range(checkpoint.round + 1, settings.rounds + 1):
            on_round(self._run_round(checkpoint, number))
        last = self._score(checkpoint.state, "validation", checkpoint.round)
        self._record_validation(checkpoint, as_reported(last, settings))
        save_last(checkpoint, folder)
        folder.save(checkpoint)
        kept = kept_round(settings, checkpoint.best_round or checkpoint.round)
        test = self._score(load_kept(folder, settings), "test", kept)
        present = self.present
        folder.finish(
            {
                "steps": sum(line["steps"] for line in checkpoint.history),
                "best_round": checkpoint.best_round,
                "seconds": sum(line["seconds"] for line in checkpoint.history),
                "classes": present.tolist() if present is not None else None,
                "rounds": [{k: line[k] for k in ("round", "participants", "refused")} for line in checkpoint.history],
                "test": describe(as_reported(test, settings)),
                "site_scores": {},
                **epsilon_facts(checkpoint.history),
            }
        )

    def _run_round(self, checkpoint: Checkpoint, number: int) -> dict[str, Any]:
        settings, before, started = self.settings, checkpoint.state, time.monotonic()
        received = as_received(before, settings.payload)
        model, present = self._model, self.present
        trained: dict[str, Trained] = {}
        seconds: dict[str, float] = {}
        epsilon: dict[str, float] = {}
        for name in sorted(self.sites):
            site_started = time.monotonic()
            memory, rows = site_state(self.out, self.title, name), self.rows[name]
            update, score, loss = train_site(
                model, self.sites[name], rows, memory, received, settings,
                seed=self.seed, round_number=number, present=present,
                proximal_mu=settings.proximal_mu if self.arm == "fedprox" else 0.0, released=memory.folder,
            )  # fmt: skip
            trained[name] = Trained(update, score, loss, rows.steps_per_round(settings))
            seconds[name] = time.monotonic() - site_started
            if settings.dp_epsilon:
                epsilon[name] = spent_epsilon(memory.folder, make_plan(rows, settings))
        weights = {name: self.rows[name].weight(settings) for name in trained}
        combined = combine(before, received, trained, weights, settings)
        self._record_validation(checkpoint, combined.scores)
        checkpoint.round = number
        checkpoint.state = apply_policies(
            combined.state, before, combined.updates, combined.weights, settings,
            arm=self.arm, classifier=self._classifier,
            classes={name: self.rows[name].present.tolist() for name in trained},
        )  # fmt: skip
        checkpoint.history.append(
            round_line(
                number,
                loss=combined.loss,
                private=bool(settings.dp_epsilon),
                steps=combined.steps,
                seconds=time.monotonic() - started,
                site_seconds={} if settings.privacy == SECURE else seconds,
                participants=trained,
                refused={},
                epsilon=epsilon,
            )
        )
        self.folder.save(checkpoint)
        return checkpoint.history[-1]

    @cached_property
    def _model(self) -> nn.Module:
        return place_model(self.settings.model, pick_device(self.settings.device))

    @cached_property
    def _classifier(self) -> tuple[str, ...]:
        return classifier_arrays(self.settings.model) if self.settings.head == "by-class" else ()

    def _record_validation(self, checkpoint: Checkpoint, scores: Scores) -> None:
        """Add the scores of the model that the sites received to the history of its round; save the best model."""
        if checkpoint.round:
            checkpoint.history[-1] |= describe(scores)
            keep_best_of(checkpoint, scores, self.folder)

    def _score(self, state: State, split: str, round_number: int) -> dict[str, Score]:
        settings, model, scores = self.settings, self._model, dict[str, Score]()
        state = as_received(state, settings.payload)
        for name in sorted(self.sites):
            set_state(model, own_model(state, settings.batch_norm, self.out, self.title, name, round_number))
            if split == "test" and settings.recalibrate:
                recalibrate(model, self.rows[name], settings)
            scores[name] = score_split(model, self.sites[name], split, settings, self.present)
        return scores
