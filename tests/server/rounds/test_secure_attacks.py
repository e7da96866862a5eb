"""Secure aggregation against a hub or a site that lies: what is refused, by whom, and with which words."""

import itertools
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedbus.errors import RunError
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.settings.schema import Settings
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.secure_records import KEYS, NAMES, SEALED, SECURE, SHARES, TERMS
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from tests.five_sites import SECURE as SECURE_SETTINGS
from tests.five_sites import first
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, register, start_of

_titles = (f"attack-{number}" for number in itertools.count())


@pytest.fixture(autouse=True)
def no_pauses(quick_polls) -> None:
    """Replies are there at once."""


@pytest.fixture
def title() -> str:
    return next(_titles)


def secure(settings: Settings, sites: int, **changes) -> Settings:
    return first(settings, sites, rounds=1, **SECURE_SETTINGS, **changes)


def refused_run(settings: Settings, prepared: Path, out: Path, title: str, **lies) -> str:
    """Run with three sites, none of which may fail; return why the run is refused."""
    with pytest.raises(RunError) as refused:
        federate(settings, prepared, out, title=title, **lies)
    assert not ArmFolder(out).read_history()
    return str(refused.value)


# --- A site that lies, or is broken


def spoiled(kind: str, change: Callable[[Message], object]) -> Callable[[str, Message], None]:
    """Change the replies of one site to one kind of message."""

    def spoil(site: str, reply: Message) -> None:
        if site == "mid" and reply.metadata.message_type == kind and not reply.has_error():
            change(reply)

    return spoil


def flip(reply: Message, key: str) -> None:
    """Change one digit of a hexadecimal message; in one of shares, it is in the first site's."""
    data = bytearray(reply.content[SECURE][key])
    place = next(i for i in range(len(data) // 6, len(data)) if chr(data[i]) in "012345678")
    data[place] += 1
    reply.content[SECURE][key] = bytes(data)


def short_vectors(reply: Message) -> None:
    arrays = {name: array.numpy() for name, array in reply.content[ARRAYS].items()}
    arrays["values"] = arrays["values"][:-1]
    reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})


FAULTS = {
    "a key that the site did not sign": ("query.keys", lambda m: flip(m, KEYS), "not signed by its own key"),
    "no key": ("query.keys", lambda m: m.content[SECURE].pop(KEYS), "no valid 'keys'"),
    "no record": ("query.keys", lambda m: m.content.pop(SECURE), "no record 'secure'"),
    "no share for one site": (
        "query.shares",
        lambda m: m.content.__setitem__(
            SECURE, ConfigRecord({NAMES: m.content[SECURE][NAMES][:-1], SEALED: m.content[SECURE][SEALED][:-1]})
        ),
        "one share for each other site",
    ),
    "one share for two sites": (
        "query.shares",
        lambda m: m.content[SECURE].update({SEALED: [m.content[SECURE][SEALED][0]] * 2}),
        "mid",
    ),
    "a vector that is too short": ("train.masked", short_vectors, "another size or type"),
    "no vector": ("train.masked", lambda m: m.content.__setitem__(ARRAYS, ArrayRecord()), "no masked vectors"),
    "damaged arrays": (
        "train.masked",
        lambda m: m.content.__setitem__(
            ARRAYS, ArrayRecord({k: Array("uint32", (3,), "numpy.ndarray", b"x") for k in ("values", "numbers")})
        ),
        "can't be read",
    ),
    "a wrong share": ("query.unmask", lambda m: flip(m, SHARES), "revealed a wrong share"),
    "no shares": ("query.unmask", lambda m: m.content[SECURE].update({SHARES: b""}), "mid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_of_three_sites_refuses_the_round_by_name(
    fault, five_site_settings, five_folder, tmp_path, title
):
    kind, change, words = FAULTS[fault]
    said = refused_run(
        secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=spoiled(kind, change)
    )  # fmt: skip
    assert "mid" in said
    assert words in said


@pytest.mark.parametrize("fault", ["a key that the site did not sign", "a vector that is too short", "a wrong share"])
def test_four_sites_do_without_the_one_at_fault(fault, five_site_settings, five_folder, tmp_path, title):
    kind, change, words = FAULTS[fault]
    settings = secure(five_site_settings, 4, quorum=3)
    (line,) = federate(
        settings, five_folder, tmp_path, title=title, spoil=spoiled(kind, change)
    ).read_history()  # fmt: skip
    others = [name for name in settings.sites if name != "mid"]
    # A site whose share is wrong has sent its vector: it is in the sum, and the other shares unmask it.
    assert line["participants"] == (list(settings.sites) if fault == "a wrong share" else others)
    assert fault == "a wrong share" or words in line["refused"]["mid"]


def test_the_share_of_another_site_in_place_of_its_own_is_refused(five_site_settings, five_folder, tmp_path, title):
    sent: dict[str, bytes] = {}

    def repeat(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "query.unmask" and not reply.has_error():
            if site == "mid":
                reply.content[SECURE][SHARES] = sent["east"]
            sent[site] = reply.content[SECURE][SHARES]

    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=repeat)
    assert "mid revealed a wrong share" in said


def test_sums_that_contradict_the_registrations_are_refused(five_site_settings, five_folder, tmp_path, title):
    def count_another_image(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "train.masked" and site == "mid":
            arrays = {name: array.numpy().copy() for name, array in reply.content[ARRAYS].items()}
            arrays["numbers"][0] += np.uint64(1)  # masked values can be added to
            reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    said = refused_run(
        secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=count_another_image
    )  # fmt: skip
    assert "not the registered" in said
    assert "does not show which site is wrong" in said


def test_a_larger_share_than_registered_is_refused(five_site_settings, five_folder, tmp_path, title):
    def claim(site: str, reply: Message) -> None:
        if reply.metadata.message_type == "train.masked" and site == "mid":
            arrays = {name: array.numpy().copy() for name, array in reply.content[ARRAYS].items()}
            arrays["numbers"][13] += np.uint64(1 << 46)  # after 9 cells, 3 losses and the loss by class: a quarter
            reply.content[ARRAYS] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    said = refused_run(secure(five_site_settings, 3), five_folder, tmp_path, title, spoil=claim)
    assert "shares of" in said


def test_a_range_that_is_too_small_is_refused_by_name(five_site_settings, five_folder, tmp_path, title, caplog):
    said = refused_run(secure(five_site_settings, 3, update_range=1e-5), five_folder, tmp_path, title)
    assert "Only 0 of 3 sites" in said
    assert "east (failed: a value of its update is out of range; see the site's own log" in said
    assert "--set update-range=" in said
    names = [name for name in start_of(five_site_settings.model) if f"A value of {name} changes" in caplog.text]
    assert names, "the site's own log names the array"
    assert "at most 1e-05" in caplog.text
    assert not any(name in said for name in names), "a lying hub could announce small ranges to learn of values"


def test_the_site_checks_its_own_update(five_site_settings, five_folder, tmp_path, title, caplog):
    said = refused_run(secure(five_site_settings, 3, update_limit=1e-6), five_folder, tmp_path, title)
    assert "mid (failed: a value of its update is out of range" in said
    assert "it moves the model by" in caplog.text
    assert "moves the model" not in said


# --- A hub that lies: each message is changed on its way to one site


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
