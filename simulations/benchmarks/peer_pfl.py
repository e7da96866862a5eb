"""FedAvg on Apple's pfl-research, a simulator known for its speed, to compare with ours.

    python -m simulations.benchmarks.peer_pfl SETTINGS.json OUT.json

SETTINGS.json contains settings, with TOML's keys. pfl is not among our dependencies: `install_peer` installs it into a
separate folder, which must be on PYTHONPATH. It is used as in its own image benchmarks: one process, one model, all
sites' balanced rows on the device as tensors. Rows, start weights, batch size and the number of optimiser steps are
those of our federation.

It runs twice, to separate the simulator's speed from that of the arithmetic: `plain` as in its benchmarks (float32,
NCHW, images normalised beforehand, no augmentation), and `matched` with our arithmetic (uint8 images augmented on the
device, channels_last, our precision, fused AdamW). Both times, pfl scores the pooled validation rows once per round, as
ours does; keeps its learning rate constant; reads the rows in one order, which is shuffled here once; does not mask
missing classes; and averages only trained parameters: BatchNorm's statistics pass from site to site. In the first round
it also scores every training row twice, so only later rounds can be compared.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
import typer
from torch import Tensor, nn

from fedbus.device import pick_device, pick_dtype
from fedbus.errors import RunError
from fedbus.models.inputs import normalise
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import environment_with
from fedbus.training.augmentation import augment, draw_views
from fedbus.training.rows import TrainingRows, site_rows
from simulations.benchmarks.case import Case, make_case
from simulations.benchmarks.plain_loop import load_model

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "peer.txt"
"""pfl and what it needs in addition to our own dependencies, with hashes."""

PEER_FOLDER = Path(platformdirs.user_cache_dir("fedbus")) / "peer"
"""Where pfl stays installed between runs."""

INSTALL_SECONDS = 300.0


def main(settings: Path, out: Path) -> None:
    """Train both ways and write the times."""
    case = make_case(out.with_suffix(""), read_json(settings))
    write_json(out, {"plain": run_peer(case, matched=False), "matched": run_peer(case, matched=True)})


def find_peer(folder: Path) -> bool:
    """Return whether a folder contains all packages that `REQUIREMENTS` names."""
    wanted = [line.split()[0] for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if "==" in line]
    found = {f"{each.name}=={each.version}" for each in metadata.distributions(path=[str(folder)])}
    return set(wanted) <= found


def install_peer(folder: Path = PEER_FOLDER) -> Path | str:
    """Install pfl into a separate folder, unless it is installed there; this environment does not change.

    Returns:
        The folder, for PYTHONPATH, or why pfl can't be installed.
    """
    if find_peer(folder):
        return folder
    target = ["--python", sys.executable, "--target", str(folder), "-r", str(REQUIREMENTS)]
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", *target]
    try:
        done = subprocess.run(
            command, env=environment_with({}), capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"uv could not install it ({error})"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        return f"uv could not install it ({lines[-1].strip()[:200]})"
    return folder


def run_peer(case: Case, *, matched: bool) -> dict[str, Any]:
    """Train the case on pfl.

    Args:
        case: The prepared case.
        matched: Whether to use our arithmetic in place of plain float32.

    Returns:
        `startup_seconds` from the prepared case, with pfl imported, to the first round; `round_seconds`; `steps` of
        each round, all sites together; `accuracy` on the validation rows, with the start weights and after every
        round but the first.

    Raises:
        RunError: If pfl is not installed.
    """
    settings, device = case.settings, pick_device(case.settings.device)
    os.environ["PFL_PYTORCH_DEVICE"] = str(device)  # otherwise pfl uses a GPU even if the settings forbid it
    try:
        from pfl.algorithm.base import NNAlgorithmParams
        from pfl.algorithm.federated_averaging import FederatedAveraging
        from pfl.callback.central_evaluation import CentralEvaluationCallback
        from pfl.data.pytorch import PyTorchTensorDataset
        from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
        from pfl.metrics import Metrics
    except ImportError as error:
        raise RunError(f"pfl can't be imported ({error}).", "Put the folder of install_peer on PYTHONPATH.") from error
    started = time.perf_counter()
    module = _Module(load_model(settings, case.start), settings, matched)
    watch = _Watch(module, Metrics)
    scoring = NNEvalHyperParams(local_batch_size=settings.batch_size)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=settings.rounds,
            evaluation_frequency=settings.rounds + 1,
            train_cohort_size=len(case.sites),
            val_cohort_size=0,
        ),
        backend=_backend(case, device, matched),
        model=_model(module, settings, device, matched),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings.learning_rate, local_batch_size=settings.batch_size
        ),
        model_eval_params=scoring,
        callbacks=[
            CentralEvaluationCallback(PyTorchTensorDataset(_validation(case, device, matched)), scoring),
            watch,
        ],
        send_metrics_to_platform=False,
    )
    return {"startup_seconds": watch.times[0] - started, **watch.summary()}


class _Module(nn.Module):
    """A classifier with the two methods that pfl requires; it counts its training steps."""

    def __init__(self, network: nn.Module, settings: Settings, matched: bool) -> None:
        super().__init__()
        self.network, self.matched, self.smoothing = network, matched, settings.label_smoothing
        self.augmented = matched and settings.augmentation
        self.views = torch.Generator().manual_seed(settings.seeds[0])
        self.steps = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits of uint8 [B, 1, H, W] if matched, of normalised float32 [B, 3, H, W] otherwise."""
        if self.matched:
            images = images.float() / 255
            if self.augmented and self.training:
                images = augment(images, draw_views(1, len(images), self.views)[0].to(images.device))
            images = normalise(images)
        logits: Tensor = self.network(images)
        return logits.float()

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss that pfl minimises."""
        self.train()
        self.steps += 1
        return nn.functional.cross_entropy(self(images), labels, label_smoothing=self.smoothing)

    @torch.no_grad()
    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Any]:
        """Compute the metrics that pfl sums over batches."""
        from pfl.metrics import Weighted

        self.eval()
        logits, count = self(images), len(labels)
        right = (logits.argmax(dim=1) == labels).sum().item()
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        return {"loss": Weighted(loss, count), "accuracy": Weighted(right, count)}


class _Watch:
    """The last of pfl's callbacks: records the time before the first round and after every round, and the scores."""

    def __init__(self, module: _Module, nothing: Callable[[], Any]) -> None:
        self.module, self.nothing = module, nothing
        self.times: list[float] = []
        self.steps = [0]
        self.accuracy: list[float] = []

    def on_train_begin(self, *, model: Any) -> Any:
        self.times.append(time.perf_counter())
        return self.nothing()

    def after_central_iteration(self, metrics: Any, model: Any, *, central_iteration: int) -> tuple[bool, Any]:
        self.times.append(time.perf_counter())
        self.steps.append(self.module.steps)
        self.accuracy.append(metrics.to_simple_dict()["Central val | accuracy"])
        return False, self.nothing()

    def on_train_end(self, *, model: Any) -> None:
        pass

    def summary(self) -> dict[str, Any]:
        return {
            "round_seconds": np.diff(self.times).tolist(),
            "steps": np.diff(self.steps).tolist(),
            "accuracy": self.accuracy,
        }


def _model(module: _Module, settings: Settings, device: torch.device, matched: bool) -> Any:
    from pfl.model.pytorch import PyTorchModel

    if matched:
        module.to(memory_format=torch.channels_last)
    return PyTorchModel(
        model=module.to(device),
        local_optimizer_create=partial(torch.optim.AdamW, weight_decay=settings.weight_decay, fused=matched),
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
        amp_dtype=pick_dtype(settings.precision, device) if matched else None,
    )


def _backend(case: Case, device: torch.device, matched: bool) -> Any:
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.data.sampling import MinimizeReuseUserSampler

    settings = case.settings
    rows = {name: site_rows(site, settings, settings.seeds[0], device) for name, site in case.sites.items()}
    users = {name: PyTorchTensorDataset(_training(each, settings, matched)) for name, each in rows.items()}
    federation = FederatedDataset(users.__getitem__, MinimizeReuseUserSampler(list(users)))
    return SimulatedBackend(federation, federation, postprocessors=[WeightByDatapoints()])


def _training(rows: TrainingRows, settings: Settings, matched: bool) -> tuple[Tensor, Tensor]:
    """Return as many of a site's balanced rows as fill our steps of a round, so that one pass takes those steps."""
    generator = torch.Generator().manual_seed(derive_seed(settings.seeds[0], "peer", rows.owner))
    order = torch.randperm(len(rows.index), generator=generator).to(rows.index.device)
    picked = order[torch.arange(rows.steps_per_round(settings) * settings.batch_size, device=order.device) % len(order)]
    return _as_held(rows.images[rows.index[picked]], matched), rows.labels[picked]


def _validation(case: Case, device: torch.device, matched: bool) -> tuple[Tensor, Tensor]:
    """Return the validation rows of all sites."""
    parts = [(site, site.splits["validation"]) for site in case.sites.values()]
    images = torch.from_numpy(np.concatenate([site.pixels[rows] for site, rows in parts])).unsqueeze(1)
    labels = torch.from_numpy(np.concatenate([site.labels[rows] for site, rows in parts]))
    return _as_held(images.to(device), matched), labels.to(device)


def _as_held(images: Tensor, matched: bool) -> Tensor:
    """Return the images as they stay on the device until a batch needs them, from uint8 [N, 1, H, W]."""
    return images if matched else normalise(images.float() / 255).contiguous(memory_format=torch.contiguous_format)


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
