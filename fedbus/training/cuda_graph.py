"""Training steps as a CUDA graph: the GPU repeats a recorded step without the processor issuing each kernel again.

A step of ResNet-50 has more than a thousand kernels. With small batches, issuing them takes longer than computing them:
on an H200, a replayed step of 10 images takes a third of the time, one of 32 images half (docs/gpu.md).
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from fedbus.training.optimiser import set_learning_rate

WARM_UP = 3
"""Steps before the recording, as PyTorch's documentation asks: they select kernels and make the optimiser's state."""

LEAST_STEPS = 8
"""Steps of a round for which a recording pays: it takes as long as a few steps."""

SPARE = 1 << 20
"""Bytes that must be free before a recording. PyTorch needs less than that to register a graph, and aborts the process
if it can't have it, as seen on an H200 with PyTorch 2.11."""

Step = Callable[..., None]
"""Takes one step from tensors on the device."""

_enabled: ContextVar[bool] = ContextVar("cuda_graphs", default=True)

_failed = threading.Event()
"""Set when a step of this process could not be recorded: PyTorch keeps the memory of attempts (its issue 190308)."""


@contextmanager
def cuda_graphs(enabled: bool) -> Iterator[None]:
    """Decide whether training in this context uses CUDA graphs where it runs on a GPU; without this, it does.

    For measurements of what they gain.
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


@contextmanager
def prepare_steps(step: Step, optimiser: torch.optim.Optimizer, device: torch.device, steps: int) -> Iterator[Step]:
    """Give a function that sets the learning rate, its first argument, then takes a step from the others.

    Args:
        step: Takes one step from tensors. Within this context, their shapes must not change, and the step must not read
            anything else that does: a CUDA graph would repeat the first value.
        optimiser: The optimiser that the step uses.
        device: Device of the training. What runs on it must be waited for before the context ends.
        steps: How many steps will be taken.
    """
    if device.type == "cuda" and _enabled.get() and steps >= LEAST_STEPS and not _failed.is_set():
        captured = CapturedStep(step, optimiser, device, CudaGraph())
        try:
            yield captured
        finally:
            captured.close()
        return

    def take(rate: float, *inputs: Tensor) -> None:
        set_learning_rate(optimiser, rate)
        step(*inputs)

    yield take


class Graph(Protocol):
    """Records work on a GPU and repeats it."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work as it will be recorded."""

    def capture(self, work: Callable[[], None]) -> None:
        """Record the work without doing it."""

    def replay(self) -> None:
        """Repeat the recorded work."""


class CudaGraph:
    """A CUDA graph of the current device."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work on a side stream: a graph can't be recorded on the default stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            work()
        torch.cuda.current_stream().wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> None:
        """Record the work; its memory stays reserved for the replays.

        thread_local: other threads of the process, such as those of a DataLoader, may use the GPU in the meantime.

        Raises:
            RuntimeError: If the work waits for the GPU, or its memory is not enough.
        """
        with torch.cuda.stream(self._stream):
            torch.empty(SPARE, dtype=torch.uint8, device="cuda")  # an error here is harmless
        # PyTorch would stay on the side stream after an error.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            work()

    def replay(self) -> None:
        """Repeat the recorded work on the current stream, without waiting for it."""
        self._graph.replay()


class CapturedStep:
    """Steps of which the first are taken, and the others replayed from a recording of one step.

    A replay reads and writes the same memory as the recording, so the inputs are copied to one place, and the learning
    rate is a tensor of float32. Up to the rounding of the rate, the result is that of taking each step. A step that
    can't be recorded is taken each time, with a warning, and this process records no other.
    """

    def __init__(self, step: Step, optimiser: torch.optim.Optimizer, device: torch.device, graph: Graph) -> None:
        """Prepare the steps; the arguments are those of `prepare_steps`, and a graph to record in."""
        self._step, self._optimiser, self._graph = step, optimiser, graph
        self._rate = torch.zeros((), device=device)
        self._inputs: list[Tensor] = []
        self._taken, self._recorded = 0, False
        set_learning_rate(optimiser, self._rate)
        self._set_capturable(True)

    def __call__(self, rate: float, *inputs: Tensor) -> None:
        """Take or replay one step."""
        self._rate.fill_(rate)
        if not self._inputs:
            self._inputs = [torch.empty_like(value) for value in inputs]
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        if self._taken == WARM_UP:
            self._recorded = self._record()
        if self._taken < WARM_UP:
            self._graph.warm_up(self._work)
        elif self._recorded:
            self._graph.replay()
        else:
            self._work()
        self._taken += 1

    def _record(self) -> bool:
        self._optimiser.zero_grad(set_to_none=True)  # the recording must make its own gradients
        try:
            self._graph.capture(self._work)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            _failed.set()
            warnings.warn(f"Training goes on without a CUDA graph, which is slower: {reason}", stacklevel=2)
            return False
        return True

    def close(self) -> None:
        """Give up the gradients, which are in the graph's memory, and leave the optimiser as it was made."""
        self._optimiser.zero_grad(set_to_none=True)
        set_learning_rate(self._optimiser, float(self._rate))
        self._set_capturable(False)

    def _work(self) -> None:
        self._step(*self._inputs)

    def _set_capturable(self, capturable: bool) -> None:
        for group in self._optimiser.param_groups:
            group["capturable"] = capturable
