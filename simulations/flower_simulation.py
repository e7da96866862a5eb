"""Federated training on one machine or a Ray cluster, with Flower's simulation engine and one pool of workers.

Flower 1.41 deprecates `run_simulation` in favour of `flwr run`: see `server/flower_internals.py`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from fedbus.errors import FedbusError, RunError
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.settings.privacy_rules import SECURE
from fedbus.settings.schema import Settings
from fedbus.system.signals import on_signals, print_stopping
from fedbus.system.third_party import silence_third_party
from fedbus.transport.shared_memory import open_shared_arrays
from server.app import make_server_app
from server.rounds.job import Job
from simulations.ray_session import start_ray
from simulations.simulated_sites import SimulatedSites
from simulations.workers import count_workers, worker_share

WORKER = "ray::ClientAppActor"
"""Ray's title for the processes in which sites train."""

MODELS_PER_SITE = 2
"""The most models in memory at a time: the one sent to a site and the one it returned."""


def simulate(settings: Settings, out: Path, jobs: Sequence[Job], stop: threading.Event) -> None:
    """Run federated trainings one after another; the same workers simulate all sites.

    Args:
        settings: The settings; all jobs share their sites and device.
        out: The run folder in which the sites are prepared, on a path that every node of a cluster sees.
        jobs: The federated trainings.
        stop: Event that ends the trainings early when it is set.

    Raises:
        FedbusError: If a job raises one, or the simulation fails.
        KeyboardInterrupt: If `stop` was set.
    """
    from flwr.simulation import run_simulation  # here, after the version of Flower has been checked

    silence_third_party()
    names, folder = list(settings.sites), out.resolve()
    largest_model = max((sum(value.nbytes for value in job.start.values()) for job in jobs), default=0)
    size = MODELS_PER_SITE * len(names) * largest_model

    workers = count_workers(settings)
    processors, gpus = start_ray(settings.ray_address, workers)  # before Flower would start one
    try:
        with (
            _stop_on_interrupt(stop),
            open_shared_arrays(folder, size, shared=bool(settings.ray_address)) as shared_arrays,
        ):
            roster = make_simulated_keys(folder, names) if settings.privacy == SECURE else ()
            sharing = [replace(job, shared_arrays=shared_arrays, sites=roster) for job in jobs]
            run_simulation(
                server_app=make_server_app(lambda _: nullcontext((len(names), sharing))),
                client_app=SimulatedSites(folder, settings.device, shared_arrays),
                num_supernodes=len(names),
                backend_config={"client_resources": worker_share(settings.device, workers, processors, gpus)},
            )
    except FedbusError:
        raise
    except Exception as error:
        interrupted = stop.is_set()  # then the workers were killed while they trained: an error is expected
        stop.set()  # the server's thread must not wait for workers that have ended
        if not interrupted:
            cause = error.__cause__ or error
            raise RunError(
                f"The simulation failed ({type(cause).__name__}: {cause}).",
                "Rerun with --resume; if memory ran out, use fewer --set workers.",
            ) from error
    if stop.is_set():
        raise KeyboardInterrupt


@contextmanager
def _stop_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """On Ctrl-C, ask the server to stop and kill the workers, instead of raising deep inside Flower.

    Ray itself runs until Flower has finished with it: a thread that calls a Ray that was shut down ends the process.
    Workers on other machines of a cluster finish the round that they are training.
    """

    def interrupt(count: int) -> None:
        if count > 1:
            print_stopping()
        stop.set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended
                if process.cmdline()[:1] and process.cmdline()[0].startswith(WORKER):
                    process.kill()

    with on_signals(interrupt):
        yield
