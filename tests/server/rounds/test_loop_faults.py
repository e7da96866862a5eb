"""Rounds in which a site misbehaves: broken updates, too few sites, silence, and a stop."""

import threading
from collections.abc import Callable

import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MessageType, MetricRecord

from clients import work
from clients.workspace import Workspace
from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.transport.messages import ARRAYS, METRICS, Instruction
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, register, same


def set_arrays(message: Message, change: Callable[[str, object], object]) -> None:
    arrays = {key: array.numpy() for key, array in message.content[ARRAYS].items()}
    message.content[ARRAYS] = ArrayRecord({k: Array(change(k, v)) for k, v in arrays.items()})


def with_nan(message: Message) -> None:
    set_arrays(message, lambda key, value: value * float("nan") if key == "conv1.0.weight" else value)


def without_one_array(message: Message) -> None:
    message.content[ARRAYS].pop(next(iter(message.content[ARRAYS])))


BROKEN: dict[str, tuple[Callable[[Message], object], str]] = {
    "NaN": (with_nan, "not finite"),
    "1000 times": (lambda m: set_arrays(m, lambda key, value: value * 1000), "times the model's norm"),
    "wrong shapes": (lambda m: set_arrays(m, lambda key, value: value[:1]), "shape"),
    "other names": (without_one_array, "names"),
    "NaN loss": (lambda m: m.content[METRICS].update({"train-loss": float("nan")}), "not finite"),
    "flat NaN": (lambda m: set_arrays(m, lambda key, value: value * float("nan")), "not finite"),
    "flat, too short": (lambda m: set_arrays(m, lambda key, value: value[:-1]), "values, not"),
    "flat, of half precision": (
        lambda m: set_arrays(m, lambda key, value: value.astype("float16")),
        "not packed as flat",
    ),
    "no weight": (lambda m: m.content.__setitem__(METRICS, MetricRecord({"train-loss": 1.0})), "not valid"),
}


PAYLOADS = {fault: "flat" for fault in BROKEN if fault.startswith("flat")}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_update_is_refused_and_the_round_continues(fault, two_site_settings, tiny_folder, tmp_path):
    change, reason = BROKEN[fault]
    settings = two_site_settings.model_copy(update={"rounds": 1, "quorum": 1, "payload": PAYLOADS.get(fault, "dict")})

    def spoil(site: str, reply: Message) -> None:
        if site == "south" and reply.metadata.message_type == MessageType.TRAIN:
            change(reply)

    folder = federate(settings, tiny_folder, tmp_path, spoil=spoil)
    line = folder.read_history()[0]
    assert line["participants"] == ["north"]
    assert reason in line["refused"]["south"]
    instruction = Instruction(settings, 7, (0, 1, 2), round=1)
    north, _ = work.train(Workspace(tiny_folder, "north", "cpu"), instruction, start_state(settings.model, "none", 7))
    assert same(folder.load_weights("final"), north)


def test_below_the_quorum_the_run_fails_and_keeps_finished_rounds(two_site_settings, tiny_folder, tmp_path):
    def raises_in_round_2(site: str, message: Message) -> Message | None:
        late = message.metadata.message_type == MessageType.TRAIN and message.content["config"]["server-round"] == 2
        return Message(Error(1, "out of memory"), reply_to=message) if late and site == "south" else NotImplemented

    with pytest.raises(RunError, match=r"round 2.*south: failed: out of memory"):
        federate(two_site_settings, tiny_folder, tmp_path, hook=raises_in_round_2)
    assert ArmFolder(tmp_path).load().round == 1
    resumed = federate(two_site_settings, tiny_folder, tmp_path)
    assert same(
        resumed.load_weights("final"),
        federate(two_site_settings, tiny_folder, tmp_path / "uncut").load_weights("final"),
    )


def test_a_silent_site_is_waited_for_only_until_the_time_limit(two_site_settings, tiny_folder, tmp_path):
    def silent(site: str, message: Message) -> Message | None:
        return None if site == "south" and message.metadata.message_type == MessageType.TRAIN else NotImplemented

    settings = two_site_settings.model_copy(update={"rounds": 1, "quorum": 1, "round_timeout": 0.3})
    line = federate(settings, tiny_folder, tmp_path, hook=silent).read_history()[0]
    assert line["participants"] == ["north"]
    assert "no reply" in line["refused"]["south"]


def test_a_stop_ends_the_run_between_messages(two_site_settings, tiny_folder, tmp_path):
    grid = LocalGrid(tiny_folder, list(two_site_settings.sites), lambda site, message: None)
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        register(grid, two_site_settings, stop)
