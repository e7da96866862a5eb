"""Train one holder's model from start to end: a hospital alone, or the pooled baseline."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedbus.device import pick_device
from fedbus.missing_classes import predictable
from fedbus.models import State, get_state, place_model, set_state
from fedbus.runs import ArmFolder, Checkpoint
from fedbus.sampling import balance
from fedbus.seeds import derive_seed
from fedbus.sites import Site
from fedbus.study import Study
from fedbus.training import Progress, TrainingRows, load_rows, make_optimiser, train_round
from fedbus.validation import Score, record, score_part, total

POOLED = "pooled"


def site_rows(site: Site, study: Study, seed: int, device: torch.device) -> TrainingRows:
    """Balance a hospital's training rows and put them on the device."""
    train = site.parts["train"]
    balanced = balance(site.pixels, site.labels, train, study.sampler, derive_seed(seed, "balance", site.name))
    return load_rows(site.name, site.pixels, balanced, len(np.unique(train)), device)


def pooled_rows(sites: Sequence[Site], study: Study, seed: int, device: torch.device) -> TrainingRows:
    """Pool the training rows of all hospitals, then balance them as one hospital's."""
    pixels = np.concatenate([site.pixels[site.parts["train"]] for site in sites])
    labels = np.concatenate([site.labels[site.parts["train"]] for site in sites])
    everything = np.arange(len(labels))
    balanced = balance(pixels, labels, everything, study.sampler, derive_seed(seed, "balance", POOLED))
    distinct = sum(len(np.unique(site.parts["train"])) for site in sites)  # rows repeat where they were over-sampled
    return load_rows(POOLED, pixels, balanced, distinct, device)


@dataclass(frozen=True)
class Fit:
    """One arm that trains in one place.

    Attributes:
        rows: what it trains on.
        validation: the sites whose validation rows choose the kept round.
        steps: optimiser steps a round.
        start: the weights that every arm starts from.
    """

    study: Study
    seed: int
    rows: TrainingRows
    validation: Sequence[Site]
    steps: int
    start: State

    @property
    def present(self) -> Tensor | None:
        """The classes that the model may predict: under `mask`, those it was trained on."""
        return predictable(self.rows.present, self.study)

    def run(self, folder: ArmFolder, progress: Progress = lambda _: None) -> None:
        """Train all rounds, from the checkpoint if there is one; the optimiser's state lives on between rounds.

        Raises:
            RunError: the loss is not finite, the disk is full.
        """
        study = self.study
        model = place_model(study.model, pick_device(study.device))
        optimiser = make_optimiser(model, study)
        at = folder.load() or Checkpoint(0, self.start)
        set_state(model, at.state)
        restore_optimiser(optimiser, at.extra)
        progress(at.round * self.steps * study.batch_size)
        for number in range(at.round + 1, study.rounds + 1):
            started = time.monotonic()
            loss = train_round(
                model, self.rows, study, seed=self.seed, round_number=number, steps=self.steps,
                optimiser=optimiser, progress=progress,
            )  # fmt: skip
            scores = {site.name: score_part(model, site, "validation", study, self.present) for site in self.validation}
            at = self._after_round(folder, at, number, get_state(model), scores)
            at.history.append(
                {"round": number, "train_loss": loss, "seconds": time.monotonic() - started, **record(scores)}
            )
            at.extra = optimiser_tensors(optimiser)
            folder.save(at)
        folder.save_weights("final", at.state, round=study.rounds)
        folder.finish(
            {
                "steps": study.rounds * self.steps,
                "kept_round": at.best_round,
                "seconds": sum(line["seconds"] for line in at.history),
                "classes": self.present.tolist() if self.present is not None else None,
            }
        )

    def _after_round(
        self, folder: ArmFolder, before: Checkpoint, number: int, state: State, scores: dict[str, Score]
    ) -> Checkpoint:
        rank = total(scores.values()).rank
        if rank > before.best_rank:
            folder.save_weights("best", state, round=number)
            return Checkpoint(number, state, before.history, number, rank)
        return Checkpoint(number, state, before.history, before.best_round, before.best_rank)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's state to named tensors on the CPU."""
    return {
        f"{index}/{key}": value.detach().cpu().contiguous()
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; nothing, for an optimiser that has not stepped yet.

    The fused optimisers walk a parameter and its momenta in the order of memory, so a momentum must lie there as its
    parameter does (channels_last), and files hold it otherwise.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    if state:
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
