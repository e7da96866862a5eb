"""FedAvg on Apple's pfl-research as in its own image benchmarks, to compare with ours.

    python -m simulations.benchmarks.peer_pfl_plain SETTINGS.json OUT.json

One process, one model, float32, NCHW, all sites' balanced rows on the device as normalised tensors, no augmentation.
Rows, start weights, batch size and the number of optimiser steps are those of our federation. pfl scores the pooled
validation rows once per round, as ours does; keeps its learning rate constant; reads the rows in one order, which is
shuffled here once; does not mask missing classes; averages only trained parameters, so that BatchNorm's statistics pass
from site to site; and writes no checkpoint. In the first round it also scores every training row twice, so only later
rounds can be compared. `peer_pfl` does our work instead.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from fedbus.device import pick_device
from fedbus.models.inputs import normalise
from fedbus.models.state import get_state
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.training.rows import TrainingRows, site_rows
from simulations.benchmarks.case import Case
from simulations.benchmarks.peer_pfl import Watch, algorithm_params, backend, import_pfl
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.plain_loop import load_model


def main(settings: Path, out: Path) -> None:
    """Train the case of a settings file on pfl, and write OUT."""
    measure(settings, out, train_plain_pfl)


def train_plain_pfl(case: Case, _: Path) -> Trained:
    """Train the case on pfl with its own loop.

    Raises:
        RunError: If pfl is not installed.
    """
    settings, device = case.settings, pick_device(case.settings.device)
    import_pfl(device)
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.central_evaluation import CentralEvaluationCallback
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    module = _Module(load_model(settings, case.start), settings).to(device)
    watch = Watch(Metrics, lambda: module.steps)
    rows = {name: site_rows(site, settings, settings.seeds[0], device) for name, site in case.sites.items()}
    scoring = NNEvalHyperParams(local_batch_size=settings.batch_size)
    FederatedAveraging().run(
        algorithm_params=algorithm_params(case),
        backend=backend({name: PyTorchTensorDataset(training_tensors(each, settings)) for name, each in rows.items()}),
        model=PyTorchModel(
            model=module,
            local_optimizer_create=partial(torch.optim.AdamW, weight_decay=settings.weight_decay),
            central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings.learning_rate, local_batch_size=settings.batch_size
        ),
        model_eval_params=scoring,
        callbacks=[CentralEvaluationCallback(PyTorchTensorDataset(validation_tensors(case, device)), scoring), watch],
        send_metrics_to_platform=False,
    )
    return Trained(watch.ends, watch.steps, get_state(module.network))


class _Module(nn.Module):
    """A classifier with the two methods that pfl requires; it counts its training steps."""

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.smoothing = network, settings.label_smoothing
        self.steps = 0

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss that pfl minimises, of normalised float32 [B, 3, H, W]."""
        self.train()
        self.steps += 1
        return nn.functional.cross_entropy(self.network(images), labels, label_smoothing=self.smoothing)

    @torch.no_grad()
    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Any]:
        """Compute the metrics that pfl sums over batches."""
        from pfl.metrics import Weighted

        self.eval()
        logits, count = self.network(images), len(labels)
        right = (logits.argmax(dim=1) == labels).sum().item()
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        return {"loss": Weighted(loss, count), "accuracy": Weighted(right, count)}


def training_tensors(rows: TrainingRows, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return as many of a site's balanced rows as fill our steps of a round, so that one pass takes those steps."""
    generator = torch.Generator().manual_seed(derive_seed(settings.seeds[0], "peer", rows.owner))
    order = torch.randperm(len(rows.index), generator=generator).to(rows.index.device)
    picked = order[torch.arange(rows.steps_per_round(settings) * settings.batch_size, device=order.device) % len(order)]
    return _normalised(rows.images[rows.index[picked]]), rows.labels[picked]


def validation_tensors(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the validation rows of all sites."""
    parts = [(site, site.splits["validation"]) for site in case.sites.values()]
    images = torch.from_numpy(np.concatenate([site.pixels[rows] for site, rows in parts])).unsqueeze(1)
    labels = torch.from_numpy(np.concatenate([site.labels[rows] for site, rows in parts]))
    return _normalised(images.to(device)), labels.to(device)


def _normalised(images: Tensor) -> Tensor:
    """Return float32 [N, 3, H, W], NCHW, from uint8 [N, 1, H, W]."""
    return normalise(images.float() / 255).contiguous(memory_format=torch.contiguous_format)


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
