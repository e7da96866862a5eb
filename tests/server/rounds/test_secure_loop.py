"""Secure aggregation in the round loop: the model is the exact mean of the survivors, and every figure is a sum."""

import numpy as np
import pytest
import torch
from flwr.app import Error, Message

from clients import work
from clients.workspace import Workspace
from fedbus.errors import RunError
from fedbus.models.batch_norm import MEAN, VARIANCE, still_names
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.secure_aggregation.fixed_point import step_of, tensor_ranges
from fedbus.settings.schema import Settings
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.report import Report
from fedbus.transport.secure_records import KEYS, SECURE, SESSION, TERMS
from server.rounds.evaluation_sums import EvaluationSums
from server.rounds.secure_loop import describe_losses
from tests.five_sites import SECURE as SECURE_SETTINGS
from tests.five_sites import first
from tests.server.rounds.federation import federate, same, start_of

STEPS = ("query.keys", "query.shares", "train.masked", "query.unmask")

POLICIES = ("average", "pooled", "frozen", "local", "local-statistics")

pytestmark = pytest.mark.usefixtures("quick_polls")


def secure(settings: Settings, sites: int, **changes) -> Settings:
    return first(settings, sites, **SECURE_SETTINGS, **changes)


def own_work(settings: Settings, folder, classes=(0, 1, 2)) -> tuple[dict[str, State], dict[str, Report]]:
    """What each site trains in the first round, without messages."""
    instruction = Instruction(settings, 7, classes, round=1, title=f"alone-{settings.batch_norm}")
    start, updates, reports = start_of(settings.model), {}, {}
    for name in settings.sites:
        updates[name], reports[name] = work.train(Workspace(folder, name, "cpu"), instruction, start)
    return updates, reports


def exact_mean(updates: dict[str, State], weights: dict[str, float], sites, policy: str) -> State:
    """The weighted mean in double precision, computed as the definitions say it."""
    total = sum(weights[site] for site in sites)
    mean = {
        key: sum(updates[site][key].double() * weights[site] for site in sites) / total
        for key in updates[next(iter(sites))]
    }
    for key in (key for key in mean if policy == "pooled" and key.endswith(VARIANCE)):
        center = key.removesuffix(VARIANCE) + MEAN
        mean[key] = (
            sum(
                (updates[site][key].double() + (updates[site][center].double() - mean[center]).square()) * weights[site]
                for site in sites
            )
            / total
        )
    return mean


def assert_is_mean(state: State, expected: State, settings: Settings, sites: int) -> None:
    """Every value is within one step per site of the exact mean, and within the rounding to float32."""
    start = start_of(settings.model)
    ranges = tensor_ranges({key: value.numpy() for key, value in start.items()}, settings.update_range)
    for key, value in state.items():
        step = 2.0**-31 if key.endswith((MEAN, VARIANCE)) else step_of(ranges[key])
        bound = sites * step + 2e-7 * expected[key].abs()
        assert ((value.double() - expected[key]).abs() <= bound).all(), key


@pytest.mark.parametrize("policy", POLICIES)
def test_the_model_is_the_mean_within_a_step_per_site(policy, five_site_settings, five_folder, tmp_path, title):
    settings = secure(five_site_settings, 3, rounds=1, batch_norm=policy)
    folder = federate(settings, five_folder, tmp_path, title=title)
    final = folder.load_weights("final")
    updates, reports = own_work(settings, five_folder)
    weights = {site: report.weight for site, report in reports.items()}
    assert len(set(weights.values())) == 3, "equal sites would not tell a weighted mean from a plain one"
    expected = exact_mean(updates, weights, settings.sites, policy)
    start = start_of(settings.model)
    still = still_names(policy, start)
    assert all(torch.equal(final[key], start[key]) for key in still)
    assert_is_mean({k: v for k, v in final.items() if k not in still}, expected, settings, 3)
    assert all((value >= 0).all() for key, value in final.items() if key.endswith(VARIANCE))


def test_the_sums_are_those_of_the_plain_run(five_site_settings, five_folder, tmp_path, title):
    settings = first(five_site_settings, 3, rounds=1, batch_norm="frozen")
    plain = federate(settings, five_folder, tmp_path / "plain", title=f"{title}-plain")
    summed = federate(secure(settings, 3), five_folder, tmp_path / "secure", title=title)
    (one,), (other,) = plain.read_history(), summed.read_history()
    assert (other["steps"], other["participants"]) == (one["steps"], one["participants"])
    assert other["train_loss"] == pytest.approx(one["train_loss"], abs=1e-6)
    for key in ("images", "accuracy", "macro_f1", "recall"):
        assert other["validation"][key] == one["validation"][key], key
    for key in ("loss", "class_loss"):
        assert other["validation"][key] == pytest.approx(one["validation"][key], abs=1e-4), key
    assert plain.read_facts()["test"]["validation"]["recall"] == summed.read_facts()["test"]["validation"]["recall"]
    assert summed.read_facts()["site_scores"] == summed.read_facts()["test"]["sites"] == {}
    assert summed.load().best_loss == pytest.approx(plain.load().best_loss, abs=1e-4)
    assert "north" not in str({k: v for k, v in other.items() if k != "participants"})


@pytest.mark.parametrize("arm", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_server_optimisers_step_from_the_mean(arm, five_site_settings, five_folder, tmp_path, title):
    options = {"strategy_options": {arm: {"eta": 0.01, "tau": 0.1} if arm != "fedavgm" else {"server-momentum": 0.9}}}
    settings = first(five_site_settings, 3, rounds=1, **options)
    plain = federate(settings, five_folder, tmp_path / "plain", arm, title=f"{title}-plain").load_weights("final")
    found = federate(secure(settings, 3), five_folder, tmp_path / "secure", arm, title=title).load_weights("final")
    assert not same(found, start_of(settings.model))
    for key in plain:
        torch.testing.assert_close(found[key], plain[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_the_survivors_mean_is_exact_wherever_a_site_drops_out(step, five_site_settings, five_folder, tmp_path, title):
    settings = secure(five_site_settings, 4, rounds=1, quorum=3, batch_norm="frozen")

    def drop(site: str, message: Message) -> Message | None:
        away = site == "mid" and message.metadata.message_type == step
        return Message(Error(1, "gone"), reply_to=message) if away else NotImplemented

    folder = federate(settings, five_folder, tmp_path, title=title, hook=drop)
    (line,) = folder.read_history()
    survivors = [name for name in settings.sites if name != "mid" or step == "query.unmask"]
    assert line["participants"] == survivors
    assert line["refused"].keys() == set(settings.sites) - set(survivors)
    updates, reports = own_work(settings, five_folder)
    expected = exact_mean(updates, {s: r.weight for s, r in reports.items()}, survivors, "frozen")
    still = set(still_names("frozen", updates["mid"]))
    final = folder.load_weights("final")
    assert_is_mean({k: v for k, v in final.items() if k not in still}, expected, settings, 4)


@pytest.fixture(scope="module")
def undisturbed(five_site_settings, five_folder, tmp_path_factory) -> ArmFolder:
    out = tmp_path_factory.mktemp("undisturbed")
    return federate(secure(five_site_settings, 3), five_folder, out, title="undisturbed")


@pytest.mark.parametrize("step", STEPS)
def test_three_sites_cannot_lose_one_and_a_resumed_run_ends_with_the_same_bits(
    step, undisturbed, five_site_settings, five_folder, tmp_path, title
):
    settings, sent = secure(five_site_settings, 3), []

    def drop_in_round_2(site: str, message: Message) -> Message | None:
        sent.append(message)
        late = message.content[CONFIG].get("server-round") == 2 and message.metadata.message_type == step
        return Message(Error(1, "gone"), reply_to=message) if late and site == "mid" else NotImplemented

    with pytest.raises(RunError, match=r"fedavg, round 2: Only 2 of 3 sites .* Missing: mid \(failed: gone\)"):
        federate(settings, five_folder, tmp_path, title=title, hook=drop_in_round_2)
    assert ArmFolder(tmp_path).load().round == 1
    before = public_keys(sent)
    sent.clear()
    resumed = federate(settings, five_folder, tmp_path, title=title, hook=lambda _, m: sent.append(m) or NotImplemented)
    assert all(same(resumed.load_weights(which), undisturbed.load_weights(which)) for which in ("best", "final"))
    assert len(before) == (3 if step == "query.keys" else 6)
    assert not before & public_keys(sent), "keys of a lost round are never used again"


def public_keys(messages: list[Message]) -> set[bytes]:
    """The signed keys that the hub has passed on."""
    return {key for m in messages if KEYS in m.content.get(SECURE, {}) for key in m.content[SECURE][KEYS]}


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_in_any_step_keeps_finished_rounds(step, undisturbed, five_site_settings, five_folder, tmp_path, title):
    settings = secure(five_site_settings, 3)

    def press(site: str, message: Message) -> Message | None:
        late = message.content[CONFIG].get("server-round") == 2 and message.metadata.message_type == step
        if late and site == "mid":
            raise KeyboardInterrupt
        return NotImplemented

    with pytest.raises(KeyboardInterrupt):
        federate(settings, five_folder, tmp_path, title=title, hook=press)
    assert ArmFolder(tmp_path).load().round == 1
    resumed = federate(settings, five_folder, tmp_path, title=title)
    assert same(resumed.load_weights("final"), undisturbed.load_weights("final"))


def test_a_site_that_disconnects_is_waited_for_with_fresh_keys(
    undisturbed, five_site_settings, five_folder, tmp_path, title, monkeypatch
):
    monkeypatch.setattr("server.rounds.secure_request.RETRY_SECONDS", 0.01)
    lost, sessions, waits = [], set(), []

    def disconnect_once(site: str, message: Message) -> Message | None:
        if message.metadata.message_type == "train.masked":
            sessions.add(message.content[SECURE][SESSION])
            if site == "mid" and not lost:
                lost.append(site)
                return Message(Error(4, "node is unavailable"), reply_to=message)
        return NotImplemented

    folder = federate(
        secure(five_site_settings, 3), five_folder, tmp_path, title=title, hook=disconnect_once, on_wait=waits.append
    )
    assert same(folder.load_weights("final"), undisturbed.load_weights("final"))
    assert len(sessions) == 3
    assert "waiting for mid to reconnect" in waits


def test_a_site_that_disconnects_while_it_unmasks_may_answer_later(
    undisturbed, five_site_settings, five_folder, tmp_path, title, monkeypatch
):
    monkeypatch.setattr("server.rounds.secure_request.RETRY_SECONDS", 0.01)
    asked: list[tuple[str, str]] = []

    def disconnect_once(site: str, message: Message) -> Message | None:
        if message.metadata.message_type == "query.unmask":
            asked.append((site, message.content[SECURE][SESSION]))
            if asked == [("east", asked[0][1]), ("mid", asked[0][1])]:
                return Message(Error(4, "node is unavailable"), reply_to=message)
        return NotImplemented

    folder = federate(secure(five_site_settings, 3), five_folder, tmp_path, title=title, hook=disconnect_once)
    assert same(folder.load_weights("final"), undisturbed.load_weights("final"))
    session = asked[0][1]
    assert [site for site, each in asked if each == session] == ["east", "mid", "north", "mid"]


def test_a_resumed_run_does_not_repeat_an_evaluation(five_site_settings, five_folder, tmp_path, title):
    settings, asked = secure(five_site_settings, 3, rounds=1), []

    def fail_at_the_test(site: str, message: Message) -> Message | None:
        asked.append((message.metadata.message_type, message.content[CONFIG]["split"]))
        fails = asked[-1] == ("evaluate.masked", "test") and site == "mid"
        return Message(Error(1, "gone"), reply_to=message) if fails else NotImplemented

    with pytest.raises(RunError, match="the evaluation \\(test\\)"):
        federate(settings, five_folder, tmp_path, title=title, hook=fail_at_the_test)
    assert ("evaluate.masked", "validation") in asked
    numbers, sites = EvaluationSums(ArmFolder(tmp_path)).find("validation", 1)
    assert sites == ["east", "mid", "north"]
    assert numbers.dtype == np.uint64
    asked.clear()
    federate(settings, five_folder, tmp_path, title=title, hook=lambda _, m: asked.append(
        (m.metadata.message_type, m.content[CONFIG]["split"])) or NotImplemented)  # fmt: skip
    assert ("evaluate.masked", "validation") not in asked
    assert ("evaluate.masked", "test") in asked


def test_the_run_says_at_its_start_which_losses_it_survives(five_site_settings, five_folder, tmp_path, title):
    waits = []
    federate(secure(five_site_settings, 3, rounds=1), five_folder, tmp_path, title=title, on_wait=waits.append)
    assert waits[0] == "secure aggregation with 3 sites: a round needs 3, so it cannot lose one"
    assert "can lose 1" in describe_losses(4, 3)
    assert "cannot lose one" in describe_losses(4, 4)
    assert "can lose 3" in describe_losses(10, 3)
    assert "a round needs 7" in describe_losses(10, 3)


def test_only_masked_vectors_keys_and_shares_leave_a_site(five_site_settings, five_folder, tmp_path, title):
    replies: list[tuple[str, Message]] = []
    federate(secure(five_site_settings, 3), five_folder, tmp_path, title=title,
             spoil=lambda site, reply: replies.append((reply.metadata.message_type, dict(reply.content))))  # fmt: skip
    kinds = {kind for kind, _ in replies}
    assert kinds == {"query", "query.keys", "query.shares", "train.masked", "evaluate.masked", "query.unmask"}
    size = sum(value.numel() for value in start_of(five_site_settings.model).values())
    for kind, content in replies:
        if kind == "query":
            continue  # the registration
        assert METRICS not in content, kind
        if kind.endswith("masked"):
            arrays = {name: array.numpy() for name, array in content[ARRAYS].items()}
            assert (arrays["values"].dtype, arrays["numbers"].dtype) == (np.uint32, np.uint64)
            assert arrays["values"].size <= size
        else:
            assert list(content) == [SECURE]


def test_terms_name_every_site_and_are_fresh_in_every_sum(five_site_settings, five_folder, tmp_path, title):
    terms = []

    def note(site: str, message: Message) -> Message | None:
        if message.metadata.message_type == "query.keys" and site == "mid":
            terms.append(message.content[SECURE][TERMS])
        return NotImplemented

    federate(secure(five_site_settings, 3), five_folder, tmp_path, title=title, hook=note)
    assert len(set(terms)) == len(terms) == 2 + 2, "two rounds, the validation of the last model, and the test"
    assert all(name.encode() in each for each in terms for name in ("east", "mid", "north"))
