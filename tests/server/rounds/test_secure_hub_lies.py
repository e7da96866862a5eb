"""Secure aggregation with a hub that lies: each message is changed on its way to one site, or repeated."""

import re
import threading
from collections.abc import Callable

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.secure_records import KEYS, NAMES, SEALED, SECURE, TERMS
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, register, start_of
from tests.server.rounds.secure_runs import refused_run, secure

pytestmark = pytest.mark.usefixtures("quick_polls")


def lie_to_mid(kind: str, change: Callable[[Message], object]) -> Callable[[str, Message], object]:
    def hook(site: str, message: Message) -> object:
        if site == "mid" and message.metadata.message_type == kind:
            message.content = RecordDict({name: copy_of(record) for name, record in message.content.items()})
            change(message)
        return NotImplemented

    return hook


def copy_of(record: object) -> object:
    return ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record


def another_model(message: Message) -> None:
    (name,) = message.content[ARRAYS]
    values = message.content[ARRAYS][name].numpy().copy()
    values[3] += 1e-3
    message.content[ARRAYS] = ArrayRecord({name: Array(values)})


def other_terms(change: Callable[[bytes], bytes]) -> Callable[[Message], None]:
    return lambda message: message.content[SECURE].update({TERMS: change(message.content[SECURE][TERMS])})


LIES = {
    "another model": ("train.masked", another_model, "The model is not the one that the sites agreed on"),
    "another instruction": (
        "train.masked",
        lambda m: m.content[CONFIG].update({"seed": 8}),
        "The instruction is not the one that the sites agreed on",
    ),
    "another instruction from the start": (
        "query.keys",
        lambda m: m.content[CONFIG].update({"seed": 8}),
        "The instruction is not the one that the sites agreed on",
    ),
    "a sum of all weights that hides the site less": (
        "query.keys",
        other_terms(lambda terms: terms.replace(b'"total_weight":', b'"total_weight":9')),
        "not signed by its own key",
    ),
    "another range": (
        "query.keys",
        other_terms(lambda terms: re.sub(rb'"update_range":[0-9.]+', b'"update_range":1.0', terms)),
        "not those of the hub's instruction",
    ),
    "another purpose": (
        "query.keys",
        other_terms(lambda terms: terms.replace(b'"purpose":"train"', b'"purpose":"test"')),
        "not those of the hub's instruction",
    ),
    "a site of the roster renamed": (
        "query.keys",
        other_terms(lambda terms: terms.replace(b'"north"', b'"noord"')),
        "not those of the hub's instruction",
    ),
    "damaged terms": ("query.keys", other_terms(lambda terms: terms[:-5]), "can't be read"),
    "another site's key": (
        "query.shares",
        lambda m: m.content[SECURE].update({KEYS: [m.content[SECURE][KEYS][0]] * 3}),
        "not signed by its own key",
    ),
    "keys of two sites only": (
        "query.shares",
        lambda m: m.content[SECURE].update({key: m.content[SECURE][key][:2] for key in (NAMES, KEYS)}),
        "2 sites",
    ),
    "shares of two sites only": (
        "train.masked",
        lambda m: m.content[SECURE].update(
            {NAMES: m.content[SECURE][NAMES][:1], SEALED: m.content[SECURE][SEALED][:1]}
        ),
        "2 sites",
    ),
    "a sum over two sites": (
        "query.unmask",
        lambda m: m.content[SECURE].update({NAMES: ["east", "mid"]}),
        "2 sites",
    ),
    "a sum without the site": (
        "query.unmask",
        lambda m: m.content[SECURE].update({NAMES: ["east", "north", "south"]}),
        "without this site's vector",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_site_refuses_what_the_others_did_not_agree_on(lie, five_site_settings, five_folder, tmp_path, title):
    kind, change, words = LIES[lie]
    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, hook=lie_to_mid(kind, change))
    assert "mid" in said
    assert words in said, said


def test_the_update_of_one_site_cannot_be_asked_for(five_site_settings, five_folder, tmp_path, title):
    def ask_plainly(site: str, message: Message) -> object:
        kind = message.metadata.message_type
        if site == "mid" and kind == "train.masked":
            message.metadata.message_type = "train"
        return NotImplemented

    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, hook=ask_plainly)
    assert "sends no update or score of its own in a run with privacy=secure-aggregation" in said


@pytest.fixture(scope="module")
def finished(five_site_settings, five_folder, tmp_path_factory) -> tuple[LocalGrid, list[Message]]:
    """A grid after a run of three sites, and all messages of its last session."""
    settings = secure(five_site_settings, 3)
    grid = LocalGrid(five_folder, list(settings.sites))
    folder, start = ArmFolder(tmp_path_factory.mktemp("finished")), start_of(settings.model)
    roster = make_simulated_keys(five_folder, settings.sites)
    run_rounds(grid, register(grid, settings), Job(settings, "fedavg", 7, start, folder, "finished", sites=roster))
    return grid, grid.sent[-12:]


@pytest.mark.parametrize("step", ["query.keys", "query.shares", "evaluate.masked"])
def test_a_repeated_message_of_a_session_is_refused(step, finished):
    grid, sent = finished
    for message in [each for each in sent if each.metadata.message_type == step]:
        reply = deliver(grid, message)
        assert reply.has_error()
        assert any(words in reply.error.reason for words in ("a second time", "second time")), reply.error.reason


def test_the_same_list_is_unmasked_again_and_no_other(finished):
    grid, sent = finished
    message = next(each for each in sent if each.metadata.message_type == "query.unmask")
    assert not deliver(grid, message).has_error()
    grid.models = None
    changed = Message(
        RecordDict({CONFIG: message.content[CONFIG], SECURE: ConfigRecord(dict(message.content[SECURE]))}),
        message.metadata.dst_node_id,
        "query.unmask",
    )
    changed.content[SECURE][NAMES] = ["east", "mid", "north", "south"]
    assert deliver(grid, changed).has_error()


def deliver(grid: LocalGrid, message: Message) -> Message:
    context = Context(
        run_id=1, node_id=message.metadata.dst_node_id, node_config={}, state=RecordDict(), run_config={}
    )  # fmt: skip
    return grid.app(message=message, context=context)


def test_a_second_update_of_one_round_is_refused(five_site_settings, five_folder, tmp_path, title):
    settings, second = secure(five_site_settings, 3), []
    grid = LocalGrid(five_folder, list(settings.sites))

    def twice(site: str, message: Message) -> object:
        if site == "mid" and message.metadata.message_type == "train.masked" and not second:
            second.append(None)
            reply = deliver(grid, message)
            second.append(deliver(grid, message))
            return reply
        return NotImplemented

    grid.hook = twice
    roster, start = make_simulated_keys(five_folder, settings.sites), start_of(settings.model)
    job = Job(settings, "fedavg", 7, start, ArmFolder(tmp_path), title, sites=roster)
    run_rounds(grid, register(grid, settings), job)
    assert "second time" in second[1].error.reason


def test_a_repeated_round_with_fewer_sites_is_not_unmasked(five_site_settings, five_folder, tmp_path, title):
    settings = secure(five_site_settings, 4, quorum=3)
    federate(settings, five_folder, tmp_path / "all", title=title)

    def without_mid(site: str, message: Message) -> object:
        if site == "mid" and message.metadata.message_type == "train.masked":
            return Message(RecordDict({METRICS: MetricRecord()}), reply_to=message)
        return NotImplemented

    said = refused_run(settings, five_folder, tmp_path / "again", title, hook=without_mid)
    assert "already unmasked the sum" in said


def test_a_stop_between_the_steps_ends_the_run(five_site_settings, five_folder, tmp_path, title):
    stop = threading.Event()

    def press(site: str, message: Message) -> object:
        if message.metadata.message_type == "query.shares":
            stop.set()
        return NotImplemented

    with pytest.raises(KeyboardInterrupt):
        federate(secure(five_site_settings, 3), five_folder, tmp_path, title=title, hook=press, stop=stop)


def test_an_instruction_for_secure_aggregation_names_the_privacy_and_the_range(five_site_settings):
    settings = secure(five_site_settings, 3, update_range=9.0)
    received = Instruction.from_config(Instruction(settings, 7, (0, 1, 2)).to_config()).settings
    assert (received.privacy, received.update_range) == ("secure-aggregation", 9.0)
