"""Which weights of a training are tested (setting `keep`): one rule for every arm.

- `best`: the round with the lowest validation loss.
- `last`: the last round, which needs no validation rows.
- `tail`: the mean of the weights of the last third of the rounds (Izmailov et al., "Averaging Weights Leads to Wider
  Optima and Better Generalization", UAI 2018).

Every training writes all three, so that the rule can be changed without training again.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fedbus.evaluation.validation import Score, selection_loss
from fedbus.models.state import State, add_to_mean
from fedbus.runs.checkpoint import ArmFolder, Checkpoint

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

FILES = {"best": "best", "last": "final", "tail": "tail"}
"""The name of the weights by rule."""


def kept_rounds(settings: "Settings", best_round: int) -> range:
    """Return the rounds whose weights are tested; of several, their mean."""
    if settings.keep == "best":
        return range(best_round, best_round + 1)
    return range(settings.rounds, settings.rounds + 1) if settings.keep == "last" else tail_rounds(settings.rounds)


def tail_rounds(rounds: int) -> range:
    """Return the last third of the rounds, rounded up."""
    return range(rounds - (rounds + 2) // 3 + 1, rounds + 1)


def load_kept(folder: ArmFolder, settings: "Settings") -> State:
    """Read the weights of a finished arm that are tested.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return folder.load_weights(FILES[settings.keep])


def finish_round(checkpoint: Checkpoint, number: int, state: State, rounds: int) -> None:
    """Record the model of a finished round in the checkpoint, and add it to the mean of the last third."""
    checkpoint.round, checkpoint.state = number, state
    tail = tail_rounds(rounds)
    if number in tail:
        checkpoint.tail = add_to_mean(checkpoint.tail, state, number - tail.start + 1)


def keep_best(checkpoint: Checkpoint, scores: Iterable[Score], folder: ArmFolder) -> None:
    """Save the model of the checkpoint's round if its validation loss is the lowest so far."""
    loss = selection_loss(scores)
    if loss < checkpoint.best_loss:
        checkpoint.best_round, checkpoint.best_loss = checkpoint.round, loss
        folder.save_weights("best", checkpoint.state, round=checkpoint.round)


def save_last(checkpoint: Checkpoint, folder: ArmFolder) -> None:
    """Save the weights of the last round and of the last third; also as the best, if no round was scored."""
    folder.save_weights("final", checkpoint.state, round=checkpoint.round)
    folder.save_weights("tail", checkpoint.tail, round=checkpoint.round)
    if checkpoint.best_round is None:
        checkpoint.best_round = checkpoint.round
        folder.save_weights("best", checkpoint.state, round=checkpoint.round)
