"""Federated trainings on one machine or a Ray cluster: Flower's simulation engine with one warm pool of workers.

Flower 1.41 deprecates `run_simulation` in favour of `flwr run`: see `server/flower_internals.py`.
"""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
from flwr.app import Context

from clients.app import make_client_app
from clients.ray_security import protect_own_ray, require_token
from clients.workspace import Workspace
from fedbus.errors import FedbusError, RunError
from fedbus.settings.schema import Settings
from fedbus.system.third_party import SETTINGS, silence_third_party
from fedbus.transport.messages import Instruction
from fedbus.transport.shared_memory import open_shared_arrays
from server.app import make_server_app
from server.rounds.loop import Job

WORKER = "ray::ClientAppActor"
"""How Ray calls the processes in which sites train."""


MODELS_A_SITE = 2
"""Models that lie in memory at a time, at most: what a site was sent and what it answered."""


def simulate(settings: Settings, out: Path, jobs: Sequence[Job], stop: threading.Event) -> None:
    """Run the jobs one after another, all sites being simulated by the same workers.

    Args:
        settings: names the sites; all jobs share its sites and device.
        out: the run folder in which the sites are prepared, on a path that every node of a cluster sees.
        jobs: federated trainings.
        stop: set to end early.

    Raises:
        FedbusError: what a job raised.
        KeyboardInterrupt: `stop` was set.
    """
    from flwr.simulation import run_simulation  # here, after the version of Flower has been checked

    silence_third_party()
    names, device, folder = list(settings.sites), settings.device, out.resolve()
    model = max((sum(value.nbytes for value in job.start.values()) for job in jobs), default=0)
    size = MODELS_A_SITE * len(names) * model

    def locate(context: Context, instruction: Instruction) -> Workspace:
        return Workspace(folder, names[int(context.node_config["partition-id"])], device)

    try:
        with (
            _stops_on_interrupt(stop),
            open_shared_arrays(folder, size, shared=bool(settings.ray_address)) as shared_arrays,
        ):
            referring = [replace(job, shared_arrays=shared_arrays) for job in jobs]
            run_simulation(
                server_app=make_server_app(lambda _: (len(names), referring)),
                client_app=make_client_app(locate, expose_errors=True, shared_arrays=shared_arrays),
                num_supernodes=len(names),
                backend_config=ray_resources(settings),
            )
    except FedbusError:
        raise
    except Exception as error:
        interrupted = stop.is_set()  # then the workers were taken away in mid-work, and whatever broke was expected
        stop.set()  # the server's thread must not wait for workers that are gone
        if not interrupted:
            cause = error.__cause__ or error
            raise RunError(
                f"The simulation broke down ({type(cause).__name__}: {cause}).",
                "Go on with --resume; fewer --set workers need less memory.",
            ) from error
    if stop.is_set():
        raise KeyboardInterrupt


def ray_resources(settings: Settings) -> dict[str, Any]:
    """Ray's settings: `workers` sites train at the same time and share processors and GPUs equally.

    Raises:
        RunError: no protected cluster answers at `ray-address`, or our own can't be protected.
    """
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    if settings.ray_address:
        processors, gpus = join_cluster(settings.ray_address)
        start: dict[str, Any] = {}
    else:
        protect_own_ray()
        processors, gpus = max(os.cpu_count() or 1, settings.workers), torch.cuda.device_count()
        # "local": a cell of a study is itself a task of a Ray, and must not join that.
        start = quiet | {"address": "local", "num_cpus": processors, "num_gpus": gpus}
    if settings.device == "cpu":
        gpus = 0
    share = {"num_cpus": max(1, processors // settings.workers), "num_gpus": share_of(gpus, settings.workers)}
    return {"init_args": start, "client_resources": share}


def share_of(gpus: int, workers: int) -> float:
    """GPUs a worker: whole ones where there are enough (Ray accepts no 1.5), else a fraction of one."""
    if gpus == 0:
        return 0.0
    return float(gpus // workers) if gpus >= workers else 1 / math.ceil(workers / gpus)


def join_cluster(address: str) -> tuple[int, int]:
    """Connect to a running cluster, which must ask for a token.

    Returns:
        Processors and GPUs of its largest node, since a worker lives on one node.

    Raises:
        RunError: none answers there, or it can't be joined with a token.
    """
    require_token(address)
    import ray

    try:
        environment = {"env_vars": SETTINGS | {"PYTHONPATH": os.pathsep.join(sys.path)}}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RunError(
            f"The Ray cluster at {address} can't be joined ({error}).",
            "Compare the token of this machine with the cluster's, and run on one of its nodes.",
        ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    best = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
    return int(best.get("CPU", 1)), int(best.get("GPU", 0))


@contextmanager
def _stops_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C asks the server to stop and takes the workers away, in place of an exception deep inside Flower.

    Ray itself stays until Flower has let go of it: a thread that asks a Ray that was shut down ends the whole process.
    Workers on other machines of a cluster finish what they are training.
    """

    def interrupt(signum: int, frame: FrameType | None) -> None:
        stop.set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # gone already
                if process.cmdline()[:1] and process.cmdline()[0].startswith(WORKER):
                    process.kill()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
