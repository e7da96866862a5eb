"""Which weights of a training are tested (setting `keep`): one rule for every arm.

- `best`: the round with the lowest validation loss.
- `last`: the last round, which needs no validation rows.

Every training writes both, so that the rule can be changed without training again.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fedbus.evaluation.validation import Score, selection_loss
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder, Checkpoint

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

FILES = {"best": "best", "last": "final"}
"""The name of the weights by rule."""


def kept_round(settings: "Settings", best_round: int) -> int:
    """Return the round whose weights are tested."""
    return best_round if settings.keep == "best" else settings.rounds


def load_kept(folder: ArmFolder, settings: "Settings") -> State:
    """Read the weights of a finished arm that are tested.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return folder.load_weights(FILES[settings.keep])


def keep_best(checkpoint: Checkpoint, scores: Iterable[Score], folder: ArmFolder) -> None:
    """Save the model of the checkpoint's round if its validation loss is the lowest so far."""
    keep_if_best(checkpoint, selection_loss(scores), folder)


def keep_if_best(checkpoint: Checkpoint, loss: float, folder: ArmFolder) -> None:
    """Do the same for a validation loss that was computed elsewhere."""
    if loss < checkpoint.best_loss:
        checkpoint.best_round, checkpoint.best_loss = checkpoint.round, loss
        folder.save_weights("best", checkpoint.state, round=checkpoint.round)


def save_last(checkpoint: Checkpoint, folder: ArmFolder) -> None:
    """Save the weights of the last round; also as the best, if no round was scored."""
    folder.save_weights("final", checkpoint.state, round=checkpoint.round)
    if checkpoint.best_round is None:
        checkpoint.best_round = checkpoint.round
        folder.save_weights("best", checkpoint.state, round=checkpoint.round)
