"""A deployed site receives the model that it evaluates several times only once, and again after a restart."""

import pytest
import torch
from flwr.app import ArrayRecord, Error, Message, RecordDict

from clients.last_model import LastModel
from fedbus.errors import RunError
from fedbus.models.state import state_digest
from fedbus.runs.checkpoint import ArmFolder
from fedbus.transport.messages import ARRAYS, CONFIG, MODEL_MISSING, Instruction
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from tests.grid import LocalGrid
from tests.server.rounds.federation import register, same, start_of
from tests.tiny import tiny_settings


class Deployed:
    """One training of two sites; `lose` names a site that is restarted before it calibrates."""

    def __init__(self, settings, prepared, out, lose: str = "") -> None:
        self.lose, self.received = lose, list[tuple[str, str, str, bool]]()
        self.grid = LocalGrid(prepared, list(settings.sites), self._deliver)
        self.grid.models = out / "models"
        participants = register(self.grid, settings)
        participants.approved = self.grid.names
        self.folder = ArmFolder(out / "arm")
        run_rounds(self.grid, participants, Job(settings, "fedavg", 7, start_of(settings.model), self.folder))

    def _deliver(self, site: str, message: Message) -> Message | None:
        config, has_model = message.content[CONFIG], ARRAYS in message.content
        if message.metadata.message_type == "evaluate":
            self.received.append((site, config["split"], config["collect"], has_model))
            if site == self.lose and config["collect"] and not has_model:
                self.lose = ""
                return Message(Error(MODEL_MISSING, "lost"), reply_to=message)
        return NotImplemented

    def with_model(self, site: str) -> list[tuple[str, str, bool]]:
        return [(split, collect, has_model) for name, split, collect, has_model in self.received if name == site]


ASKED = [("validation", ""), ("validation", "likelihoods"), ("validation", "bins"), ("test", "")]


@pytest.fixture(scope="module", params=["flat", "flat-fp16"])
def settings(two_site_settings, request):
    return two_site_settings.model_copy(update={"rounds": 1, "keep": "last", "payload": request.param})


@pytest.fixture(scope="module")
def whole(settings, tiny_folder, tmp_path_factory) -> Deployed:
    return Deployed(settings, tiny_folder, tmp_path_factory.mktemp("whole"))


def test_a_model_that_a_site_has_just_evaluated_is_not_sent_again(whole):
    for site in ("north", "south"):
        assert whole.with_model(site) == [(*asked, number == 0) for number, asked in enumerate(ASKED)]


def test_a_restarted_site_receives_the_model_again_and_the_results_are_the_same(whole, settings, tiny_folder, tmp_path):
    restarted = Deployed(settings, tiny_folder, tmp_path, lose="north")
    assert restarted.with_model("north") == [
        (*ASKED[0], True), (*ASKED[1], False), (*ASKED[1], True), (*ASKED[2], False), (*ASKED[3], False)
    ]  # fmt: skip
    assert restarted.with_model("south") == whole.with_model("south")
    timed = {"seconds"}
    one, other = ({k: v for k, v in each.folder.read_facts().items() if k not in timed} for each in (whole, restarted))
    assert one == other
    assert one["test"]["sites"].keys() == {"north", "south"}


def test_a_site_that_always_asks_for_the_model_is_asked_twice_and_named(two_site_settings, tiny_folder, tmp_path):
    class Asking(Deployed):
        def _deliver(self, site: str, message: Message) -> Message | None:
            if site == "north" and message.metadata.message_type == "evaluate":
                self.received.append((site, "", "", ARRAYS in message.content))
                return Message(Error(MODEL_MISSING, "lost"), reply_to=message)
            return NotImplemented

        def __init__(self, *arguments) -> None:
            with pytest.raises(RunError, match=r"too few sites could evaluate the model .*north: failed: lost"):
                super().__init__(*arguments)

    settings = two_site_settings.model_copy(update={"rounds": 1})
    assert [has_model for *_, has_model in Asking(settings, tiny_folder, tmp_path).received] == [True, True]


def test_another_best_model_is_sent_once(two_site_settings, tiny_folder, tmp_path):
    settings = two_site_settings.model_copy(update={"rounds": 3, "learning_rate": 0.05})
    deployed = Deployed(settings, tiny_folder, tmp_path)
    another = deployed.folder.read_facts()["best_round"] != settings.rounds
    expected = [True, another, False, False]
    assert [has_model for *_, has_model in deployed.with_model("north")] == expected


def message(config: dict, state=None) -> Message:
    content = RecordDict()
    if state is not None:
        content[ARRAYS] = ArrayRecord()
    return Message(content, 1, "evaluate")


def test_a_site_answers_only_for_the_model_that_the_instruction_names():
    model, other = {"a": torch.ones(2)}, {"a": torch.zeros(2)}
    named = Instruction(tiny_settings(), 7, (0, 1, 2), model=state_digest(model))
    last = LastModel()
    assert last.read(message({}), named, dict) is None, "it has none yet"
    with pytest.raises(RunError, match="another model"):
        last.read(message({}, other), named, lambda: other)
    assert last.read(message({}), named, dict) is None, "the other one is not kept"
    assert same(last.read(message({}, model), named, lambda: model), model)
    assert same(last.read(message({}), named, dict), model)
    unnamed = Instruction(tiny_settings(), 7, (0, 1, 2))
    assert last.read(message({}), unnamed, dict) is None
    assert last.read(message({}, other), unnamed, lambda: other) is other
    assert same(last.read(message({}), named, dict), model)
    last.forget()
    assert last.read(message({}), named, dict) is None
