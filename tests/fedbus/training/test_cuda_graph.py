"""Steps replayed from a recording, with a stand-in for the GPU's: they must end as steps that are taken."""

import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fedbus.models.state import get_state, set_state
from fedbus.training import cuda_graph
from fedbus.training.cuda_graph import LEAST_STEPS, WARM_UP, CapturedStep, cuda_graphs, prepare_steps
from fedbus.training.missing_classes.registry import POLICIES
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import site_rows
from tests.models import CPU, conv_model, train
from tests.tiny import noise_site, tiny_settings


class StandIn:
    """Repeats work on the CPU; like a GPU, it does not do the work while recording it."""

    def __init__(self):
        self.calls = []

    def warm_up(self, work):
        self.calls.append("warm up")
        work()

    def capture(self, work):
        self.calls.append("capture")
        self.work = work

    def replay(self):
        self.calls.append("replay")
        self.work()


@pytest.fixture
def graph(monkeypatch):
    """Capture on the CPU, in a stand-in."""
    made = StandIn()

    class Device:
        type = "cuda"

    prepare = cuda_graph.prepare_steps
    monkeypatch.setattr(cuda_graph, "_failed", threading.Event())
    monkeypatch.setattr(cuda_graph, "CudaGraph", lambda: made)
    monkeypatch.setattr(
        cuda_graph, "CapturedStep", lambda step, optimiser, _, graph: CapturedStep(step, optimiser, CPU, graph)
    )
    monkeypatch.setattr(
        "fedbus.training.loop.prepare_steps",
        lambda step, optimiser, _, steps: prepare(step, optimiser, Device, steps),
    )
    return made


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_a_captured_round_ends_with_the_bits_of_a_usual_one(optimiser, mu, graph):
    settings = tiny_settings(optimiser=optimiser, schedule="constant", warmup=0.0, learning_rate=2**-7)
    rows, found = site_rows(noise_site(), settings, 0, CPU), []
    for enabled in (False, True):
        model = conv_model()
        used, steps = make_optimiser(model, settings), LEAST_STEPS
        with cuda_graphs(enabled):
            losses = [
                train(model, rows, settings, steps, optimiser=used, round_number=number, proximal_mu=mu)
                for number in (1, 2)
            ]
        assert [group["lr"] for group in used.param_groups] == [2**-7, 2**-7]
        assert not any(group.get("capturable") for group in used.param_groups)
        found.append((losses, get_state(model)))
        assert graph.calls == (
            [*["warm up"] * WARM_UP, "capture", *["replay"] * (LEAST_STEPS - WARM_UP)] * 2 if enabled else []
        )
    (losses, state), (captured_losses, captured_state) = found
    assert losses == captured_losses
    assert all(torch.equal(state[key], captured_state[key]) for key in state)


def test_a_changing_rate_reaches_the_replayed_steps(graph):
    settings = tiny_settings(learning_rate=0.05, optimiser="sgd")
    rows, states = site_rows(noise_site(), settings, 0, CPU), []
    for enabled in (False, True):
        model = conv_model()
        with cuda_graphs(enabled):
            train(model, rows, settings, 12)
        states.append(get_state(model))
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-5, atol=1e-6)  # the rate is rounded to float32


def test_without_a_gpu_every_step_is_taken(monkeypatch):
    monkeypatch.setattr(cuda_graph, "CudaGraph", lambda: pytest.fail("captured on the CPU"))
    settings = tiny_settings()
    train(conv_model(), site_rows(noise_site(), settings, 0, CPU), settings, LEAST_STEPS)


def test_a_short_round_is_not_recorded(graph):
    settings = tiny_settings()
    train(conv_model(), site_rows(noise_site(), settings, 0, CPU), settings, LEAST_STEPS - 1)
    assert graph.calls == []


def test_a_step_that_cannot_be_recorded_is_taken_each_time_with_a_warning(graph, monkeypatch):
    settings = tiny_settings(optimiser="sgd", schedule="constant", warmup=0.0, learning_rate=2**-7)
    rows, states = site_rows(noise_site(), settings, 0, CPU), []
    for enabled in (False, True):
        model = conv_model()
        if enabled:
            monkeypatch.setattr(graph, "capture", cannot_record)
            with pytest.warns(UserWarning, match="without a CUDA graph, which is slower: out of memory"):
                train(model, rows, settings, LEAST_STEPS)
            set_state(model, get_state(conv_model()))
            train(model, rows, settings, LEAST_STEPS)  # is not recorded again: a warning would be an error
        else:
            with cuda_graphs(False):
                train(model, rows, settings, LEAST_STEPS)
        states.append(get_state(model))
    assert "replay" not in graph.calls
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def cannot_record(work):
    raise RuntimeError("out of memory\nand a long explanation")


def test_an_error_leaves_the_optimiser_as_it_was_made(graph):
    settings = tiny_settings(learning_rate=2**-7)
    optimiser = make_optimiser(conv_model(), settings)

    class Device:
        type = "cuda"

    with pytest.raises(ZeroDivisionError), prepare_steps(lambda _: 1 / 0, optimiser, Device, LEAST_STEPS) as take:
        take(2**-7, torch.zeros(1))
    assert optimiser.param_groups[0]["lr"] == 2**-7


class Reads(TorchDispatchMode):
    """Counts the operations for which a processor waits for a GPU: reading values, and shapes that depend on them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.count += name in {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"}
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("policy", POLICIES)
def test_no_step_of_a_round_waits_for_the_device(policy):
    settings = tiny_settings(missing_classes=policy)
    rows = site_rows(noise_site(counts=(15, 10, 0)), settings, 0, CPU)
    model = conv_model()
    optimiser = make_optimiser(model, settings)
    counts = []
    for steps in (1, 5):
        with Reads() as reads:
            train(model, rows, settings, steps, optimiser=optimiser)
        counts.append(reads.count)
    assert counts[0] == counts[1] == (2 if policy == "distil" else 1)  # the mean loss; which classes are missing
