"""Start a Ray of our own on this machine, or join a cluster; both require a token."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from clients.ray_security import protect_own_ray, require_token
from fedbus.errors import RunError
from fedbus.system.signals import kept_handlers
from fedbus.system.third_party import SETTINGS
from fedbus.system.threads import waiting_policy

HELPERS = ("start_log_monitor", "start_monitor", "start_api_server")
"""Methods of Ray's `Node` that start Python programs of which a simulation has no use: they collect what workers print,
add nodes and serve a dashboard. Each takes 80 to 100 MB, and time of the processors that train."""

TIMERS = (
    "raylet_report_resources_period_milliseconds", "local_fs_monitor_interval_ms", "object_manager_timer_freq_ms",
    "raylet_check_gc_period_milliseconds", "kill_idle_workers_interval_ms",
)  # fmt: skip
"""What Ray's node does every .1 or .2 s. Each time, it interrupts a thread that trains, for which the others wait."""

EVERY = 1000
"""How often it does that here, in ms. Ray's processes made a step on two cores 4 % longer (docs/threads.md)."""


def start_ray(address: str, workers: int = 1) -> tuple[int, int]:
    """Join the cluster at an address, or start a Ray if the address is empty.

    Args:
        address: HOST:PORT of a cluster, or empty.
        workers: A Ray of our own has at least this many processors.

    Returns:
        Processors and GPUs of the largest node: a worker can't span nodes.

    Raises:
        RunError: If no protected cluster answers there, or a Ray on this machine can't be protected.
    """
    return join_cluster(address) if address else _start_own_ray(workers)


def join_cluster(address: str) -> tuple[int, int]:
    """Connect to a running cluster, which must require a token.

    Returns:
        Processors and GPUs of its largest node.

    Raises:
        RunError: If no cluster answers, it requires no token, or ours is not accepted.
    """
    require_token(address)
    import ray

    variables = SETTINGS | waiting_policy() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        with kept_handlers():
            ray.init(
                address=address, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RunError(
            f"The Ray cluster at {address} can't be joined ({error}).",
            "Check that this machine has the cluster's token, and run on one of its nodes.",
        ) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
    return int(largest.get("CPU", 1)), int(largest.get("GPU", 0))


def _start_own_ray(workers: int) -> tuple[int, int]:
    protect_own_ray()
    import ray
    import torch

    processors, gpus = max(os.cpu_count() or 1, workers), torch.cuda.device_count()
    try:
        # By the environment, workers find our modules; a `runtime_env` would cost a further process, and wait for it.
        with kept_handlers(), _without_helpers(), patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
            ray.init(
                # "local": a study runs its cells as tasks of a Ray, which a cell's own simulation must not join.
                address="local", num_cpus=processors, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR, _system_config=dict.fromkeys(TIMERS, EVERY),
            )  # fmt: skip
    except Exception as error:  # Ray raises errors of any type if one of its processes ends or is too slow
        raise RunError(
            f"Ray, which runs the sites of a simulation, could not be started ({error}).",
            "Rerun with --resume. If it fails again, end other programs that use much memory or processor time.",
        ) from error
    return processors, gpus


@contextmanager
def _without_helpers() -> Iterator[None]:
    """Let Ray start without the programs of `HELPERS`; it has no public setting for that."""
    from ray._private.node import Node

    def start_nothing(self: Node, **options: Any) -> None:
        pass

    with ExitStack() as stack:
        for name in HELPERS:
            stack.enter_context(patch.object(Node, name, start_nothing))
        yield
