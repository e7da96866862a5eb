"""FedAvg on fluke, a simulator for research (Polato, 2024), with exactly our work at the sites.

    python -m simulations.benchmarks.peer_fluke SETTINGS.json OUT.json

fluke is not among our dependencies: `install_peer` installs it into a separate folder, which must be on PYTHONPATH. Its
one process has a server and a client per site with a model each; fluke sends the models over its channel, averages
parameters and BatchNorm's statistics, and saves the server after every round. A site's round is ours (`SiteWork`), so
the end weights must be ours but for rounding.
"""

import os
import time
from pathlib import Path
from typing import Any

import typer
from torch import nn

from fedbus.errors import RunError
from fedbus.models.state import get_state, set_state
from simulations.benchmarks.case import Case
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.site_work import SiteWork


def main(settings: Path, out: Path) -> None:
    """Train the case of a settings file on fluke, and write OUT."""
    measure(settings, out, train_fluke)


def train_fluke(case: Case, folder: Path) -> Trained:
    """Train the case on fluke, with our rounds at the sites.

    Raises:
        RunError: If fluke is not installed.
    """
    os.environ.setdefault("WANDB_MODE", "disabled")
    try:
        from fluke import FlukeENV
        from fluke.algorithms.fedavg import FedAVG
        from fluke.server import Server
    except ImportError as error:
        raise RunError(
            f"fluke can't be imported ({error}).", "Put the folder of install_peer on PYTHONPATH."
        ) from error
    work = SiteWork(case.settings, case.sites)
    environment = FlukeENV()
    environment.set_device(work.device.type)
    environment.set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=False)  # our work scores
    environment.set_save_options(path=str(folder / "checkpoints"), save_every=1, global_only=True)
    model = work.make_model()
    set_state(model, case.start)
    clients = [_client(index, name, work) for index, name in enumerate(work.rows)]
    server = Server(model=model, test_set=None, clients=clients, weighted=True)
    watch = _watch(work)
    federation = FedAVG(len(clients), None, {}, clients=clients, server=server)
    federation.set_callbacks(watch)
    federation.run(case.settings.rounds, 1.0)
    return Trained(watch.ends, watch.steps, get_state(server.model))


def _client(index: int, name: str, work: SiteWork) -> Any:
    """Make fluke's client of a site, whose fitting is our round."""
    from fluke.client import Client

    class SiteClient(Client):  # type: ignore[misc]
        rounds = 0

        @property
        def n_examples(self) -> int:
            return int(work.weight(name))

        def fit(self, override_local_epochs: int = 0) -> float:
            self.rounds += 1
            work.train(self.model, name, self.rounds)
            return 0.0

    return SiteClient(index, None, None, None, nn.CrossEntropyLoss(), local_epochs=1)


def _watch(work: SiteWork) -> Any:
    """Make the observer that records when each round ended, and its optimiser steps."""
    from fluke.utils import FederationObserver

    class Watch(FederationObserver):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.steps: list[int] = []

        def end_round(self, round: int) -> None:
            self.ends.append(time.time())
            self.steps.append(work.taken - sum(self.steps))

    return Watch()


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
