"""Steps replayed by a real GPU; skipped where there is none."""

import threading
import warnings

import pytest
import torch

from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import State, get_state, set_state
from fedbus.training import cuda_graph
from fedbus.training.cuda_graph import LEAST_STEPS, CudaGraph, cuda_graphs
from fedbus.training.rows import site_rows
from tests.models import train
from tests.tiny import noise_site, tiny_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class NoMemory(CudaGraph):
    """Records with no more memory than model and optimiser have taken."""

    more = 0

    def capture(self, work):
        torch.cuda.empty_cache()
        limit = (torch.cuda.memory_reserved() + self.more) / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(limit)
        try:
            super().capture(work)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


class LittleMemory(NoMemory):
    """Starts to record, then a step needs more memory than there is."""

    more = 40 << 20

    def capture(self, work):
        def large():
            work()
            torch.empty(100 << 20, dtype=torch.uint8, device="cuda")

        super().capture(large)


class Waits(CudaGraph):
    """Records a step that waits for the GPU, which a recording must not."""

    def capture(self, work):
        def waiting():
            work()
            torch.ones(1, device="cuda").item()

        super().capture(waiting)


@pytest.mark.parametrize("graph", [CudaGraph, NoMemory, LittleMemory, Waits])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rounds_end_with_the_same_bits_whether_or_not_a_step_can_be_recorded(graph, precision, monkeypatch):
    with cuda_graphs(False):
        usual = two_rounds(precision)
    monkeypatch.setattr(cuda_graph, "CudaGraph", graph)
    monkeypatch.setattr(cuda_graph, "_failed", threading.Event())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        captured = two_rounds(precision)
    assert all(torch.equal(usual[key], captured[key]) for key in usual)
    assert len([each for each in caught if "without a CUDA graph" in str(each.message)]) == (graph is not CudaGraph)


def two_rounds(precision: str) -> State:
    """Train at a constant rate that is a power of two: the graph's rounding to float32 doesn't change it."""
    settings = tiny_settings(
        device="cuda", precision=precision, schedule="constant", warmup=0.0, learning_rate=2.0**-11
    )
    device = torch.device("cuda")
    model, rows = place_model(settings.model, device), site_rows(noise_site(), settings, 0, device)
    set_state(model, start_state(settings.model, "none", 0))
    for number in (1, 2):
        train(model, rows, settings, LEAST_STEPS, round_number=number)
    return get_state(model)
