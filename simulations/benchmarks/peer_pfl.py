"""FedAvg on Apple's pfl-research, a simulator known for its speed, with exactly our work at the sites.

    python -m simulations.benchmarks.peer_pfl SETTINGS.json OUT.json

pfl is not among our dependencies: `install_peer` installs it into a separate folder, which must be on PYTHONPATH. Its
one process has one model. pfl chooses the sites, keeps and restores the weights, averages the differences by its
`WeightByDatapoints`, applies the mean and saves a checkpoint after every round; a site's round is ours (`SiteWork`).
BatchNorm's statistics are averaged like parameters, as ours are. So the end weights must be ours but for rounding, and
only the simulators differ. `peer_pfl_plain` uses pfl's own loop instead.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from torch import nn

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.models.state import get_state, set_state
from simulations.benchmarks.case import Case
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.site_work import SiteWork


def main(settings: Path, out: Path) -> None:
    """Train the case of a settings file on pfl, and write OUT."""
    measure(settings, out, train_pfl)


def train_pfl(case: Case, folder: Path) -> Trained:
    """Train the case on pfl, with our rounds at the sites.

    Raises:
        RunError: If pfl is not installed.
    """
    import_pfl(pick_device(case.settings.device))
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.checkpoint import ModelCheckpointingCallback
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.metrics import Metrics

    settings, work = case.settings, SiteWork(case.settings, case.sites)
    module = _Network(work.make_model())
    set_state(module.network, case.start)
    module.train()
    watch = Watch(Metrics, lambda: work.taken)
    FederatedAveraging().run(
        algorithm_params=algorithm_params(case),
        backend=backend(
            {
                name: PyTorchTensorDataset((torch.zeros(int(work.weight(name)), 1),), train_kwargs={"site": name})
                for name in work.rows
            }
        ),
        model=_model(module, work),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings.learning_rate, local_batch_size=settings.batch_size
        ),
        callbacks=[ModelCheckpointingCallback(str(folder.resolve() / "checkpoints"), checkpoint_frequency=1), watch],
        send_metrics_to_platform=False,
    )
    return Trained(watch.ends, watch.steps, get_state(module.network))


def import_pfl(device: torch.device) -> None:
    """Import pfl for a device.

    Raises:
        RunError: If it is not installed.
    """
    os.environ["PFL_PYTORCH_DEVICE"] = str(device)  # otherwise pfl uses a GPU even if the settings forbid it
    try:
        import pfl.algorithm.federated_averaging  # noqa: F401
    except ImportError as error:
        raise RunError(f"pfl can't be imported ({error}).", "Put the folder of install_peer on PYTHONPATH.") from error


def algorithm_params(case: Case) -> Any:
    """Return pfl's settings of a federation in which all sites take part in every round."""
    from pfl.algorithm.base import NNAlgorithmParams

    return NNAlgorithmParams(
        central_num_iterations=case.settings.rounds,
        evaluation_frequency=case.settings.rounds + 1,
        train_cohort_size=len(case.sites),
        val_cohort_size=0,
    )


def backend(users: dict[str, Any]) -> Any:
    """Return pfl's simulator of users, weighted by the length of their datasets."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import MinimizeReuseUserSampler

    federation = FederatedDataset(users.__getitem__, MinimizeReuseUserSampler(list(users)))
    return SimulatedBackend(federation, federation, postprocessors=[WeightByDatapoints()])


class Watch:
    """The last of pfl's callbacks: records when each round ended, and its optimiser steps.

    Args:
        nothing: Makes pfl's empty metrics.
        count: Returns the number of steps since the start.
    """

    def __init__(self, nothing: Callable[[], Any], count: Callable[[], int]) -> None:
        self.nothing, self.count = nothing, count
        self.ends: list[float] = []
        self.steps: list[int] = []

    def on_train_begin(self, *, model: Any) -> Any:
        """Do nothing."""
        return self.nothing()

    def after_central_iteration(self, metrics: Any, model: Any, *, central_iteration: int) -> tuple[bool, Any]:
        """Note the end of a round."""
        self.ends.append(time.time())
        self.steps.append(self.count() - sum(self.steps))
        return False, self.nothing()

    def on_train_end(self, *, model: Any) -> None:
        """Do nothing."""


class _Network(nn.Module):
    """A classifier with the two methods that pfl requires; neither is called, as our loop trains and scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def loss(self, *_: Any) -> Any:
        raise NotImplementedError

    def metrics(self, *_: Any) -> Any:
        raise NotImplementedError


def _model(module: _Network, work: SiteWork) -> Any:
    """Make pfl's model: it exchanges BatchNorm's statistics too, and a site's round is ours."""
    from pfl.context import LocalResultMetaData
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    exchanged: dict[str, torch.Tensor] = dict(module.named_parameters())
    exchanged |= {name: value for name, value in module.named_buffers() if not name.endswith("num_batches_tracked")}
    done = dict.fromkeys(work.rows, 0)

    class Model(PyTorchModel):  # type: ignore[misc]
        @property
        def variable_map(self) -> dict[str, torch.Tensor]:
            return exchanged

        def do_multiple_epochs_of(self, user_dataset: Any, *_: Any, **__: Any) -> Any:
            site = user_dataset.train_kwargs["site"]
            done[site] += 1
            work.train(module.network, site, done[site])
            return LocalResultMetaData(num_steps=work.steps(site))

        def evaluate(self, *_: Any, **__: Any) -> Any:
            return Metrics()  # pfl would score the training rows in the first round; our work scores validation rows

    # The central step subtracts "gradients", which are the mean differences: SGD with rate 1 adds the mean.
    return Model(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(exchanged.values(), lr=1.0),
    )


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
