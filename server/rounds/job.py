"""What one federated training needs to know."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings
from fedbus.transport.shared_memory import SharedArrays


@dataclass(frozen=True)
class Job:
    """One federated training.

    Attributes:
        settings: The settings.
        arm: The strategy's name.
        seed: The training seed.
        start: The weights that every arm starts from.
        folder: Where checkpoints and weights are stored.
        title: Names the folder in which a deployed site keeps the final model.
        run: As in `Instruction`.
        on_round: Called with the history line of every finished round.
        on_wait: Called with a description of what the run waits for.
        stop: Set it to end the run as Ctrl-C would.
        shared_arrays: Where models are stored that messages only refer to; None if messages contain them.
        sites: As in `Instruction`.
    """

    settings: Settings
    arm: str
    seed: int
    start: State
    folder: ArmFolder
    title: str = "run"
    run: str = ""
    on_round: Callable[[dict[str, Any]], object] = lambda line: None
    on_wait: Callable[[str], object] = lambda description: None
    stop: threading.Event = field(default_factory=threading.Event)
    shared_arrays: SharedArrays | None = None
    sites: tuple[str, ...] = ()
