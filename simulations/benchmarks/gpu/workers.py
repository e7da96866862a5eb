"""The same federated rounds with one to three worker processes that train side by side on one GPU."""

import math
import mmap
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import torch
from torch import Tensor

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.models.build import model_shapes, place_model
from fedbus.models.start import start_state
from fedbus.models.state import State, get_state, set_state
from fedbus.training.cuda_graph import cuda_graphs
from fedbus.training.rows import TrainingRows
from simulations.benchmarks.gpu.federation import BARE, ROUNDS, SITES, find_row, list_sizes, train_site
from simulations.benchmarks.gpu.machine import graphs_work
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import Plan, noise_rows

WORKERS = "workers"
"""Name of the stage."""

TOLERANCE = 1.03
"""How much longer a round may take with fewer workers, which need less memory, for these to be the default."""


def measure_workers(plan: Plan, results: Results) -> None:
    """Measure the rounds of `measure_bare` with one to three workers that share the GPU without NVIDIA's MPS.

    With CUDA graphs, as training uses them, unless these were found to change a result.
    """
    cases: list[dict[str, Any]] = [
        {"batch_size": batch_size, "graphs": graphs_work(results), "workers": workers}
        for batch_size in list_sizes(plan)
        for workers in range(1, SITES + 1)
    ]
    with _start_workers(plan) as federation:
        for case in cases:
            if not find_row(results, WORKERS, case):
                seconds = federation.measure(**case)
                bare = find_row(results, BARE, {key: case[key] for key in ("batch_size", "graphs")})
                over_bare = seconds / bare["round_s"] if bare else None
                results.add_row(WORKERS, case | {"round_s": seconds, "over_bare": over_bare})
    results.add(WORKERS, {"default": choose_workers(results.of(WORKERS)["rows"], cases[0]["batch_size"])})


def choose_workers(rows: Sequence[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    """Choose the fewest workers whose round is hardly longer than the shortest."""
    used = [row for row in rows if row["batch_size"] == batch_size]
    fastest = min(row["round_s"] for row in used)
    enough = [row["workers"] for row in used if row["round_s"] <= TOLERANCE * fastest]
    return {"batch_size": batch_size, "workers": min(enough)}


class _Federation:
    """Worker processes, the shared weights and an update of each site, in memory that the processes share.

    Each model is one array: a file descriptor for every tensor would be more than a process may have.
    """

    def __init__(
        self, pipes: Sequence[Connection], children: Sequence[ForkProcess], shared: Tensor, updates: Sequence[Tensor]
    ) -> None:
        self.pipes, self.children, self.shared, self.updates = pipes, children, shared, updates

    def measure(self, batch_size: int, graphs: bool, workers: int) -> float:
        """Return the seconds of a round in which this many workers train; the sites are dealt out to them."""
        rounds = []
        for number in range(1, ROUNDS + 1):
            started = time.perf_counter()
            for worker, pipe in enumerate(self.pipes[:workers]):
                pipe.send((number, list(range(SITES))[worker::workers], batch_size, graphs))
            for pipe, child in zip(self.pipes[:workers], self.children, strict=False):
                wait([pipe, child.sentinel])
                if not pipe.poll():
                    raise RunError("A worker ended while it trained.", "See what it printed above.")
                pipe.recv()
            self.shared.copy_(torch.stack(list(self.updates)).mean(dim=0))
            rounds.append(time.perf_counter() - started)
        return statistics.median(rounds[1:])


@contextmanager
def _start_workers(plan: Plan) -> Iterator[_Federation]:
    """Start all workers at once: they are forked, so this process must not have used the GPU or PyTorch's threads."""
    fork, model = multiprocessing.get_context("fork"), plan.settings.model
    size = sum(math.prod(shape) for shape in model_shapes(model).values())
    shared, *updates = (_shared_floats(size) for _ in range(1 + SITES))
    ends = [fork.Pipe() for _ in range(SITES)]
    children = [fork.Process(target=_work, args=(end, plan, shared, updates), daemon=True) for _, end in ends]
    try:
        for child in children:
            child.start()
        start = start_state(model, "none", 0)
        for name, value in named(shared, model).items():
            value.copy_(start[name])
        yield _Federation([pipe for pipe, _ in ends], children, shared, updates)
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
            child.join()


def _shared_floats(count: int) -> Tensor:
    """Make float32 [count] in memory that forked processes share.

    PyTorch's `share_memory_` copies with several threads. A process forked after that waits forever for these threads,
    which it does not have.
    """
    return torch.frombuffer(mmap.mmap(-1, 4 * count), dtype=torch.float32)


def _work(pipe: Connection, plan: Plan, shared: Tensor, updates: Sequence[Tensor]) -> None:
    """Train the sites named in every message, and answer when their updates are in the shared memory."""
    name = plan.settings.model
    device = pick_device(plan.settings.device)
    model, received = place_model(name, device), named(shared, name)
    sent = [named(update, name) for update in updates]

    @lru_cache  # the first round of each case is not counted
    def rows(batch_size: int, site: int) -> TrainingRows:
        return noise_rows(plan.case(name, batch_size), plan.epoch_steps * batch_size, device, site)

    while True:
        number, sites, batch_size, graphs = pipe.recv()
        for site in sites:
            set_state(model, received)
            with cuda_graphs(graphs):
                train_site(model, rows(batch_size, site), plan.case(name, batch_size), number)
            for key, value in get_state(model).items():
                sent[site][key].copy_(value)
        pipe.send(number)


def named(values: Tensor, model: str) -> State:
    """Give the arrays of a model, by name, that are views of one array."""
    shapes = model_shapes(model)
    parts = torch.split(values, [math.prod(shape) for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
