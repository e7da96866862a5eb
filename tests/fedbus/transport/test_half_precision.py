"""Half precision loses nothing that matters over many rounds: compared with float64, computed here with NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.models.state import State
from fedbus.transport.half_precision import HALF, as_read, as_received, rebase
from fedbus.transport.packing import layout_of
from fedbus.transport.update_check import check_update
from fedbus.transport.weights import WeightCodec

ROUNDS, SITES, VALUES = 40, 3, 600


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


class Federation:
    """Sites that each pull a model towards weights of their own, by steps that become shorter."""

    def __init__(self, rate: float) -> None:
        generator = np.random.default_rng(3)
        size = 10 ** generator.uniform(-3, 0, VALUES)
        self.start = generator.normal(0, 1, VALUES) * size
        self.targets = generator.normal(0, 1, (SITES, VALUES)) * size
        self.noise = generator.normal(0, 0.1, (ROUNDS, SITES, VALUES)) * size
        self.rates = rate * (1 + np.cos(np.pi * np.arange(ROUNDS) / ROUNDS)) / 2

    def trained(self, received: np.ndarray, number: int, site: int) -> np.ndarray:
        return received + self.rates[number] * (self.targets[site] - received + self.noise[number, site])

    def exact(self) -> np.ndarray:
        """Without rounding."""
        model = self.start
        for number in range(ROUNDS):
            model = np.mean([self.trained(model, number, site) for site in range(SITES)], axis=0)
        return model

    def rounded_weights(self, *, feedback: bool) -> np.ndarray:
        """Hub and sites send weights; with feedback each adds what it has rounded off to what it sends next."""
        model, at_hub, at_sites = self.start, np.zeros(VALUES), np.zeros((SITES, VALUES))
        for number in range(ROUNDS):
            received, sent = half(model + at_hub), []
            if feedback:
                at_hub = model + at_hub - received
            for site in range(SITES):
                update = self.trained(received, number, site) + at_sites[site]
                sent.append(half(update))
                if feedback:
                    at_sites[site] = update - sent[-1]
            model = np.mean(sent, axis=0)
        return model

    def broadcast_feedback(self) -> np.ndarray:
        """The hub feeds back what it rounds off; what the sites send is not rounded."""
        model, carried = self.start, np.zeros(VALUES)
        for number in range(ROUNDS):
            received = half(model + carried)
            carried = model + carried - received
            model = np.mean([self.trained(received, number, site) for site in range(SITES)], axis=0)
        return model + carried

    def messages(self) -> np.ndarray:
        """By the messages of FedBUS."""
        model: State = {"weight": torch.from_numpy(self.start).float()}
        codec = WeightCodec(HALF, layout_of(model))
        for number in range(ROUNDS):
            received = codec.from_message(codec.to_message(codec.pack(model)))
            updates = []
            for site in range(SITES):
                update = self.trained(received["weight"].double().numpy(), number, site)
                sent = codec.pack_update({"weight": torch.from_numpy(update).float()}, received)
                updates.append(codec.read_update(codec.to_message(sent), model)["weight"])
            model = {"weight": torch.stack(updates).mean(dim=0)}
        return model["weight"].double().numpy()


@pytest.mark.parametrize("rate", [0.1, 1e-3, 1e-5])
def test_differences_end_closer_to_full_precision_than_weights_with_error_feedback(rate):
    federation = Federation(rate)
    exact = federation.exact()
    moved = np.linalg.norm(exact - federation.start)

    def error(found: np.ndarray) -> float:
        return float(np.linalg.norm(found - exact) / moved)

    plain, fed_back = (error(federation.rounded_weights(feedback=feedback)) for feedback in (False, True))
    assert error(federation.messages()) < min(fed_back / 3, 2e-3)
    assert fed_back < plain
    if rate == 1e-5:
        assert plain > 0.9, "a change below half a step of half precision is lost in every round"


def test_the_hub_feeds_back_what_it_rounds_off():
    federation = Federation(1e-3)
    expected = federation.broadcast_feedback()
    error = np.linalg.norm(federation.messages() - expected) / np.linalg.norm(expected - federation.start)
    assert error < 1e-3


STATES = st.integers(0, 2**32 - 1).map(
    lambda seed: {
        "fc.weight": torch.randn((3, 4), generator=torch.Generator().manual_seed(seed)),
        "bn.weight": torch.randn(4, generator=torch.Generator().manual_seed(seed + 1)).exp(),
        "bn.running_mean": torch.randn(4, generator=torch.Generator().manual_seed(seed + 2)),
        "bn.running_var": torch.randn(4, generator=torch.Generator().manual_seed(seed + 3)).mul(6).exp().clamp(max=6e4),
    }
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(STATES, STATES)
def test_an_update_is_read_as_in_a_federation_without_messages_and_variances_stay_positive(before, update):
    codec = WeightCodec(HALF, layout_of(before))
    received = codec.from_message(codec.to_message(codec.pack(before)))
    assert all(torch.equal(value, received[name]) for name, value in as_received(before, HALF).items())
    update |= {"bn.weight": received["bn.weight"]}  # an array of its own, which a site does not send
    read = codec.read_update(codec.to_message(codec.pack_update(update, received)), before)
    expected = as_read(update, received, before, HALF)
    assert all(torch.equal(value, expected[name]) for name, value in read.items())
    assert torch.equal(read["bn.weight"], before["bn.weight"])
    assert (read["bn.running_var"] >= 0).all()
    torch.testing.assert_close(read["bn.running_var"], update["bn.running_var"], rtol=2**-11, atol=3e-8)
    moved = update["fc.weight"].double() - received["fc.weight"].double()
    torch.testing.assert_close(read["fc.weight"].double() - before["fc.weight"], moved, rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("name", ["fc.weight", "bn.running_var"])
def test_a_value_out_of_range_is_refused_by_name(name):
    before = {"fc.weight": torch.ones(3), "bn.running_var": torch.ones(3)}
    update = before | {name: torch.tensor([1.0, 1e5, 1.0])}
    codec = WeightCodec(HALF, layout_of(before))
    read = codec.read_update(codec.to_message(codec.pack_update(update, before)), before)
    assert check_update(read, before, 1e9) == f"{name} contains values that are not finite"


@pytest.mark.parametrize("payload", ["dict", "flat"])
def test_other_payloads_are_not_touched(payload):
    model, other = {"fc.weight": torch.ones(3)}, {"fc.weight": torch.zeros(3)}
    assert as_received(model, payload) is model
    assert rebase(model, other, other, payload) is model
    assert as_read(model, other, other, payload) is model
