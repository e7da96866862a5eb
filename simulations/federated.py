"""Federated trainings on one machine or a Ray cluster: Flower's simulation engine with one warm pool of workers."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from flwr.app import Context
from flwr.simulation import run_simulation

from clients.app import make_client_app
from clients.place import Place
from fedbus.errors import FedbusError, RunError
from fedbus.quiet import hush
from fedbus.study import Study
from server.app import make_server_app
from server.rounds import Job


def simulate(study: Study, out: Path, jobs: Sequence[Job], stop: threading.Event) -> None:
    """Run the jobs one after another, all sites being simulated by the same workers.

    Args:
        study: names the sites; all jobs share its sites and device.
        out: the run folder in which the sites are prepared, on a path that every node of a cluster sees.
        jobs: federated trainings.
        stop: set to end early.

    Raises:
        FedbusError: what a job raised.
        KeyboardInterrupt: `stop` was set.
    """
    hush()
    names, device, folder = list(study.sites), study.device, out.resolve()

    def locate(context: Context) -> Place:
        return Place(folder, names[int(context.node_config["partition-id"])], device)

    try:
        with _stops_on_interrupt(stop):
            run_simulation(
                server_app=make_server_app(lambda _: (len(names), jobs)),
                client_app=make_client_app(locate),
                num_supernodes=len(names),
                backend_config=ray_resources(study),
            )
    except FedbusError:
        raise
    except Exception as error:
        if not stop.is_set():  # the workers were taken away in mid-work: whatever breaks then is expected
            cause = error.__cause__ or error
            raise RunError(
                f"The simulation broke down ({type(cause).__name__}: {cause}).",
                "Go on with --resume; fewer --set workers need less memory.",
            ) from error
    if stop.is_set():
        raise KeyboardInterrupt


def ray_resources(study: Study) -> dict[str, Any]:
    """Ray's settings: `workers` sites train at the same time and share the processors and GPUs equally."""
    init: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    if study.ray_address:
        init["address"] = study.ray_address
    processors = os.cpu_count() or 1
    gpus = torch.cuda.device_count() if study.device != "cpu" else 0
    share = {"num_cpus": max(1, processors // study.workers), "num_gpus": gpus / study.workers}
    if not study.ray_address:
        init |= {"num_cpus": max(processors, study.workers), "num_gpus": gpus}
    return {"init_args": init, "client_resources": share}


@contextmanager
def _stops_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C asks the server to stop and takes the workers away, in place of an exception deep inside Flower."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        stop.set()
        import ray

        ray.shutdown()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
