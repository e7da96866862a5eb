"""One hostile site and a robust arm: the model stays among the honest updates, or the arm is refused.

Property: every value of the new model is between the smallest and the largest value that honest sites sent for it. So a
hostile update moves the model no further than honest ones can. With FedAvg, a ninth of the hostile update would remain.
"""

import gc
from itertools import product

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.errors import SettingsError
from fedbus.models.state import State
from fedbus.settings.arms import ROBUST
from fedbus.transport.messages import ARRAYS, METRICS
from fedbus.transport.report import WEIGHT
from server.rounds.flower_messages import from_array_record, to_array_record
from server.rounds.robust import UPDATES_NEEDED, check_robust, check_robust_arms, set_parameters
from server.rounds.strategies import make_strategy
from tests.server.rounds.federation import federate
from tests.tiny import tiny_settings

SHAPES = {"conv.weight": (4, 3, 3), "bn.running_var": (4,), "fc.weight": (3, 4), "fc.bias": (3,)}


@pytest.fixture(autouse=True)
def sender(monkeypatch):
    """The sender, as Flower's processes set it; without the garbage collection that Bulyan runs for every update."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    monkeypatch.setattr(gc, "collect", lambda: 0)


def state(generator: np.random.Generator, scale: float) -> State:
    return {k: torch.from_numpy(generator.normal(0, scale, s).astype(np.float32)) for k, s in SHAPES.items()}


def moved(before: State, step: State) -> State:
    return {key: before[key] + step[key] for key in before}


def norm(values: State) -> float:
    return float(torch.cat([value.ravel() for value in values.values()]).norm())


def hostile_step(before: State, generator: np.random.Generator, kind: str) -> State:
    """A step of nine times the model's norm: in some direction, back through the origin, or all of it in one value."""
    step = {"random": state(generator, 1.0), "reversed": before, "one value": {k: v * 0 for k, v in before.items()}}[
        kind
    ]
    if kind == "one value":
        step["fc.bias"] = torch.tensor([1.0, 0.0, 0.0])
    sign = -1 if kind == "reversed" else 1
    return {key: value * (sign * 9 * norm(before) / norm(step)) for key, value in step.items()}


def aggregate(arm: str, updates: list[State], **settings: object) -> State:
    chosen = tiny_settings(arms=(arm,), **settings)
    check_robust(arm, chosen, len(updates))
    strategy = make_strategy(arm, chosen)
    set_parameters(strategy, arm, chosen, len(updates))
    replies = [
        Message(
            RecordDict({ARRAYS: to_array_record(update), METRICS: MetricRecord({WEIGHT: 10.0 + i})}),
            i + 1,
            MessageType.TRAIN,
        )
        for i, update in enumerate(updates)
    ]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    return from_array_record(arrays)


@pytest.mark.parametrize(("arm", "sites"), list(product(ROBUST, (3, 5, 10))))
def test_a_hostile_update_of_nine_times_the_models_norm_leaves_the_model_among_the_honest(arm, sites):
    if arm == "bulyan" and sites < 7:
        with pytest.raises(SettingsError, match="7 updates per round"):
            check_robust(arm, tiny_settings(arms=(arm,)), sites)
        return
    for seed, kind in product(range(4), ("random", "reversed", "one value")):
        generator = np.random.default_rng(seed)
        before = state(generator, 1.0)
        honest = [moved(before, state(generator, 0.1)) for _ in range(sites - 1)]
        place = int(generator.integers(sites))
        updates = [*honest[:place], moved(before, hostile_step(before, generator, kind)), *honest[place:]]
        found = aggregate(arm, updates)
        for key in SHAPES:
            values = torch.stack([update[key] for update in honest])
            assert (found[key] >= values.amin(0) - 1e-5).all(), (key, seed, kind)
            assert (found[key] <= values.amax(0) + 1e-5).all(), (key, seed, kind)


def test_the_same_update_owns_the_plain_average():
    generator = np.random.default_rng(0)
    before = state(generator, 1.0)
    updates = [before, before, moved(before, hostile_step(before, generator, "random"))]
    change = aggregate("fedavg", updates)
    assert norm({key: change[key] - before[key] for key in before}) > 2 * norm(before)


@pytest.mark.parametrize(
    ("arm", "updates", "options", "words"),
    [
        ("fedmedian", 2, {}, "3 updates per round"),
        ("krum", 2, {}, "3 updates per round"),
        ("bulyan", 6, {"num-malicious-nodes": 0}, "7 updates per round"),
        ("bulyan", 10, {"num-malicious-nodes": 2}, "11 updates per round"),
        ("bulyan", 10, {"num-malicious-nodes": 0}, "is averaged like the others"),
        ("fedtrimmedavg", 3, {"beta": 0.2}, "beta = 0.2"),
        ("krum", 10, {"num-malicious-nodes": 0}, "num-malicious-nodes = 0"),
        ("multikrum", 5, {"num-nodes-to-select": 5}, "num-nodes-to-select = 5"),
    ],
)
def test_options_and_numbers_that_protect_nobody_are_refused(arm, updates, options, words):
    settings = tiny_settings(arms=(arm,), strategy_options={arm: options})
    with pytest.raises(SettingsError, match=words):
        check_robust(arm, settings, updates)
    with pytest.raises(SettingsError, match=arm):
        check_robust_arms(settings, updates)


def test_a_fifth_of_the_sites_is_expected_to_be_hostile_and_one_at_least():
    for arm, updates in product(ROBUST, range(3, 40)):
        if updates < UPDATES_NEEDED[arm](1):
            continue
        strategy, settings = make_strategy(arm, tiny_settings()), tiny_settings()
        set_parameters(strategy, arm, settings, updates)
        found = getattr(strategy, "num_malicious_nodes", None)
        if arm == "fedtrimmedavg":
            found = int(strategy.beta * updates)
            assert strategy.beta < 0.5
        if found is not None:
            assert 1 <= found <= max(1, updates // 5)
            assert UPDATES_NEEDED[arm](found) <= updates
            assert found == max(1, updates // 5) or UPDATES_NEEDED[arm](found + 1) > updates


def test_options_that_protect_are_kept():
    options = {"fedtrimmedavg": {"beta": 0.3}, "multikrum": {"num-malicious-nodes": 1, "num-nodes-to-select": 2}}
    settings = tiny_settings(strategy_options=options)
    trimmed, multikrum = make_strategy("fedtrimmedavg", settings), make_strategy("multikrum", settings)
    for strategy, arm in ((trimmed, "fedtrimmedavg"), (multikrum, "multikrum")):
        check_robust(arm, settings, 10)
        set_parameters(strategy, arm, settings, 10)
    assert trimmed.beta == 0.3
    assert (multikrum.num_malicious_nodes, multikrum.num_nodes_to_select) == (1, 2)


def test_a_training_with_too_few_sites_or_too_low_a_quorum_is_refused_before_its_first_round(
    two_site_settings, tiny_folder, tmp_path
):
    with pytest.raises(SettingsError, match="fedmedian"):
        federate(two_site_settings, tiny_folder, tmp_path, "fedmedian")
    assert not list(tmp_path.rglob("*.safetensors"))
    settings = tiny_settings(arms=("fedmedian",), quorum=2)
    with pytest.raises(SettingsError, match="quorum"):
        check_robust_arms(settings, 5)
    check_robust_arms(settings.model_copy(update={"quorum": 3}), 5)
