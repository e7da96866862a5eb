"""FedAvg written as in Flower's PyTorch quickstart, to compare with ours.

    python -m simulations.benchmarks.plain_flower SETTINGS.json OUT.json

SETTINGS.json contains settings, with TOML's keys. As in the quickstart, every message builds the model, loads the whole
state dict of the message (including BatchNorm's `num_batches_tracked`, which averaging turns into a float), opens the
images, and sends the whole state dict back. A second message per round has the new model scored on the site's
validation rows, as our federation does. The loop is that of `plain_loop`, so sites, rows, start weights, batch size and
the number of optimiser steps are those of our federation. Flower's defaults give a site two processors and no GPU; if
there are GPUs, all sites share them and train at the same time, which is the fastest that the quickstart allows.

The folders of links are created for each run and removed afterwards.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import typer
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from clients.ray_security import protect_own_ray
from fedbus.models.build import build_model
from fedbus.models.state import State
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.system.third_party import silence_third_party
from fedbus.training.rows import site_rows
from server.flower_internals import aggregate_metricrecords
from simulations.benchmarks.case import Case
from simulations.benchmarks.image_folders import write_image_folders
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.plain_loop import (
    load_model,
    plain_device,
    score,
    scoring_batches,
    train_steps,
    training_batches,
)
from simulations.workers import gpus_per_worker


@dataclass(frozen=True)
class PlainSite:
    """One site of the plain federation.

    Attributes:
        folder: Its tree of images.
        steps: Optimiser steps per round, as many as in our federation.
    """

    folder: Path
    steps: int


@dataclass
class Notes:
    """What the server records while the federation runs; times are seconds of `time.time`.

    Attributes:
        ended: When each round ended.
        steps: Optimiser steps of each round, all sites together.
        final: The state dict after the last round.
    """

    ended: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    final: Mapping[str, torch.Tensor] = field(default_factory=dict)


def main(settings: Path, out: Path) -> None:
    """Run the federation and write its times."""
    measure(settings, out, run_plain_flower)


def run_plain_flower(case: Case, folder: Path) -> Trained:
    """Train the case as the quickstart would.

    Args:
        case: The prepared case.
        folder: The folder for the trees of images.
    """
    silence_third_party()
    protect_own_ray()
    with tempfile.TemporaryDirectory(dir=folder, prefix="plain-flower-") as scratch:
        sites = plain_sites(case, Path(scratch))
        notes = Notes()
        run_simulation(
            server_app=make_server_app(case.settings, case.start, sites, notes),
            client_app=make_client_app(case.settings, sites),
            num_supernodes=len(sites),
            backend_config=resources(case.settings, len(sites)),
        )
    return Trained(notes.ended, notes.steps, {key: notes.final[key].float().contiguous() for key in case.start})


def plain_sites(case: Case, root: Path) -> list[PlainSite]:
    """Lay out the trees, and count the steps that our federation would take at each site."""
    folders, settings, cpu = write_image_folders(case, root), case.settings, torch.device("cpu")
    return [
        PlainSite(folders[name], site_rows(site, settings, settings.seeds[0], cpu).steps_per_round(settings))
        for name, site in case.sites.items()
    ]


def resources(settings: Settings, sites: int) -> dict[str, Any]:
    """Flower's defaults on CPUs; with GPUs, a share for each site that lets all of them train at the same time."""
    gpus = 0 if settings.device == "cpu" else torch.cuda.device_count()
    return {"client_resources": {"num_cpus": 2, "num_gpus": gpus_per_worker(gpus, sites)}} if gpus else {}


def make_client_app(settings: Settings, sites: list[PlainSite]) -> ClientApp:
    """Make the quickstart's ClientApp, with the model, images and loop of the case."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model, number = _model(message, settings), int(context.node_config["partition-id"])
        round_number = cast(int, cast(ConfigRecord, message.content["config"])["server-round"])
        site = sites[number]
        loader = training_batches(site.folder, settings, derive_seed(settings.seeds[0], "plain", number, round_number))
        run = train_steps(model, loader, settings, site.steps, round_number, settings.rounds)
        metrics: dict[str, Any] = {
            "train_loss": sum(run.losses) / len(run.losses),
            "num-examples": len(cast(Any, loader.dataset)),
            "steps": len(run.losses),
        }
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        model, site = _model(message, settings), sites[int(context.node_config["partition-id"])]
        loader = scoring_batches(site.folder, "validation", settings)
        loss, accuracy = score(model, loader)
        metrics: dict[str, Any] = {
            "eval_loss": loss,
            "eval_acc": accuracy,
            "num-examples": len(cast(Any, loader.dataset)),
        }
        return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return app


def make_server_app(settings: Settings, start: State, sites: list[PlainSite], notes: Notes) -> ServerApp:
    """Make the quickstart's ServerApp; it waits for all sites, and records times."""
    app = ServerApp()

    def note_training(replies: list[RecordDict], weighted_by: str) -> MetricRecord:
        metrics = [cast(Mapping[str, Any], reply["metrics"]) for reply in replies]
        notes.steps.append(sum(int(each["steps"]) for each in metrics))
        return aggregate_metricrecords(replies, weighted_by)

    def note_end(round_number: int, arrays: ArrayRecord) -> None:
        if round_number > 0:
            notes.ended.append(time.time())
            if round_number == settings.rounds:
                notes.final = arrays.to_torch_state_dict()

    @app.main()
    def serve(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            min_train_nodes=len(sites), min_evaluate_nodes=len(sites), min_available_nodes=len(sites),
            train_metrics_aggr_fn=note_training,
        )  # fmt: skip
        initial = ArrayRecord(load_model(settings, start).state_dict())
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=settings.rounds, evaluate_fn=note_end)

    return app


def _model(message: Message, settings: Settings) -> torch.nn.Module:
    model = build_model(settings.model)
    model.load_state_dict(cast(ArrayRecord, message.content["arrays"]).to_torch_state_dict())
    return model.to(plain_device(settings))


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
