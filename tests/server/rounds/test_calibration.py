"""A deployed federation fits the temperature and threshold that a simulation fits to the same rows."""

from dataclasses import replace

import pytest
from flwr.app import MetricRecord

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.calibration import Calibration, calibrate
from fedbus.evaluation.predict import predict_split
from fedbus.model_folder.read import read_model
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import set_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.transport.messages import METRICS, Instruction
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from tests.grid import LocalGrid
from tests.server.rounds.federation import register

RULE = "sensitivity=0.5"


def deploy(settings, prepared, out, spoil=lambda site, reply: None):
    grid = LocalGrid(prepared, list(settings.sites), spoil=spoil)
    grid.models = out / "models"  # as deployed sites have
    participants = register(grid, settings)
    participants.approved = grid.names
    folder = ArmFolder(out / "arm")
    run_rounds(grid, participants, Job(settings, "fedavg", 7, start_state(settings.model, "none", 7), folder))
    return folder, grid


@pytest.fixture(scope="module")
def settings(two_site_settings):
    return two_site_settings.model_copy(update={"threshold": RULE, "rounds": 1})


@pytest.fixture(scope="module")
def deployed(settings, tiny_folder, tmp_path_factory):
    return deploy(settings, tiny_folder, tmp_path_factory.mktemp("deployed"))


def test_temperature_and_threshold_are_those_of_a_simulation(settings, deployed, tiny_sites):
    folder, _ = deployed
    model = place_model(settings.model, pick_device("cpu"))
    set_state(model, folder.load_weights("best"))
    rows = [predict_split(model, site, "validation", settings) for site in tiny_sites.values()]
    expected, found = calibrate(rows, RULE), Calibration.model_validate(folder.read_facts()["calibration"])
    assert found == expected


def test_the_site_keeps_the_calibration_with_its_model(deployed):
    folder, grid = deployed
    kept = [read_model(path.parent) for path in sorted(grid.models.glob("*/model.json"))]
    assert len(kept) == 2
    expected = Calibration.model_validate(folder.read_facts()["calibration"])
    assert all(each.facts.calibration == expected for each in kept)


def test_test_rows_are_only_used_with_a_finished_calibration(deployed):
    _, grid = deployed
    configs = [message.content["config"] for message in grid.sent if message.metadata.message_type == "evaluate"]
    assert [(config["split"], config["collect"], bool(config["calibration"])) for config in configs[::2]] == [
        ("validation", "", False), ("validation", "likelihoods", False), ("validation", "bins", False),
        ("test", "", True),
    ]  # fmt: skip


def test_a_site_that_sends_no_sums_is_named(settings, tiny_folder, tmp_path):
    def forget(site, reply):
        if site == "north" and "likelihood-sums" in reply.content.get(METRICS, {}):
            numbers = dict(reply.content[METRICS])
            del numbers["likelihood-sums"]
            reply.content[METRICS] = MetricRecord(numbers)

    with pytest.raises(RunError, match=r"north: Its report has no likelihoods.*same version"):
        deploy(settings, tiny_folder, tmp_path, forget)


@pytest.mark.parametrize(
    "change",
    [{"collect": "rows"}, {"collect": "bins", "split": "test"}, {"temperature": 0.0}, {"calibration": "{}"}],
)
def test_a_site_refuses_an_instruction_that_calibrates_otherwise(settings, change):
    config = Instruction(settings, 7, ()).to_config() | {"server-round": 1}
    assert Instruction.from_config(config)
    with pytest.raises(RunError, match="instruction"):
        Instruction.from_config(config | change)


def test_an_instruction_of_the_previous_version_is_refused_with_the_remedy(settings):
    config = replace(Instruction(settings, 7, ()), split="test").to_config()
    del config["collect"]
    with pytest.raises(RunError, match="Run the same version of FedBUS everywhere"):
        Instruction.from_config(config)
