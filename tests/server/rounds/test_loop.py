"""The round loop on real messages between the real applications, delivered in this process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

from clients import work
from clients.workspace import Workspace
from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.training.rows import site_rows
from fedbus.transport.allow_list import CALIBRATION, REGISTRATION, REPORT, TEST_REPORT
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.report import BATCH_NORM_KEY
from fedbus.transport.shared_memory import FREE, SharedArrays
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from simulations.local_training import LocalTraining
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, register, same


def test_fedavg_is_the_mean_weighted_by_distinct_training_images(two_site_settings, tiny_folder, tiny_sites, tmp_path):
    settings = two_site_settings.model_copy(update={"rounds": 1})
    folder = federate(settings, tiny_folder, tmp_path)
    start = start_state(settings.model, "none", 7)
    instruction = Instruction(settings, 7, (0, 1, 2), round=1)
    updates = {name: work.train(Workspace(tiny_folder, name, "cpu"), instruction, start)[0] for name in settings.sites}
    counts = {name: len(site.splits["train"]) for name, site in tiny_sites.items()}
    assert len(set(counts.values())) == 2, "equal sites would not tell a weighted mean from a plain one"
    for key, value in folder.load_weights("final").items():
        expected = sum(updates[n][key].double() * counts[n] for n in counts) / sum(counts.values())
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_one_round_of_one_site_equals_local_training(
    two_site_settings: Settings, tmp_path: Path, tiny_folder: Path, tiny_sites: dict[str, Site]
):
    settings = two_site_settings.model_copy(update={"rounds": 1, "sites": {"north": two_site_settings.sites["north"]}})
    federated = federate(settings, tiny_folder, tmp_path / "fed")
    rows = site_rows(tiny_sites["north"], settings, 7, torch.device("cpu"))
    local = ArmFolder(tmp_path / "local")
    LocalTraining(
        settings, 7, rows, [tiny_sites["north"]], rows.steps_per_round(settings), start_state(settings.model, "none", 7)
    ).run(local)
    assert same(federated.load_weights("final"), local.load_weights("final"))


def test_fedprox_with_mu_0_is_fedavg_and_with_mu_is_not(two_site_settings, tiny_folder, tmp_path):
    fedavg = federate(two_site_settings, tiny_folder, tmp_path / "avg").load_weights("final")
    without = two_site_settings.model_copy(update={"proximal_mu": 0.0})
    assert same(federate(without, tiny_folder, tmp_path / "mu0", "fedprox").load_weights("final"), fedavg)
    strong = two_site_settings.model_copy(update={"proximal_mu": 1.0})
    assert not same(federate(strong, tiny_folder, tmp_path / "mu1", "fedprox").load_weights("final"), fedavg)


def test_the_same_seed_gives_the_same_run(two_site_settings, tiny_folder, tmp_path):
    first = federate(two_site_settings, tiny_folder, tmp_path / "a")
    second = federate(two_site_settings, tiny_folder, tmp_path / "b")
    assert same(first.load_weights("final"), second.load_weights("final"))
    timeless = [
        [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in f.read_history()]
        for f in (first, second)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("payload", ["dict", "flat", "flat-fp16"])
def test_models_by_reference_give_the_same_run_in_files_that_are_written_again(
    payload, two_site_settings, tiny_folder, tmp_path
):
    settings = two_site_settings.model_copy(update={"payload": payload})
    in_messages = federate(settings, tiny_folder, tmp_path / "in messages")
    references, bytes_sent, files = [], [], []
    (tmp_path / "models").mkdir()

    def inspect(site: str, reply: Message) -> None:
        if ARRAYS in reply.content:
            references.append(reply.content[ARRAYS])
            bytes_sent.append(sum(len(array.data) for array in reply.content[ARRAYS].values()))
            files.append(count_files(tmp_path / "models"))

    shared_arrays = SharedArrays(tmp_path / "models")
    federated = federate(settings, tiny_folder, tmp_path / "references", spoil=inspect, shared_arrays=shared_arrays)
    assert same(federated.load_weights("final"), in_messages.load_weights("final"))
    assert len(references) == settings.rounds * len(settings.sites)
    assert max(bytes_sent) < 1000
    assert max(files) == 1 + len(settings.sites), "the model that was sent, and one reply per site"
    assert [path.name for path in (tmp_path / "models").iterdir()] == [FREE], "no model is left that can be read"
    assert count_files(tmp_path / "models") <= len(settings.sites)


def count_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("arm", "payload"),
    [("fedavg", "flat"), ("fedavg", "flat-fp16"), ("fedavgm", "flat"), ("fedadam", "flat"), ("fedyogi", "flat")],
)
def test_a_resumed_run_equals_an_uninterrupted_one(arm, payload, two_site_settings, tiny_folder, tmp_path):
    options = {"fedavgm": {"server-momentum": 0.9}, "fedadam": {"eta": 0.01}, "fedyogi": {"eta": 0.01}}
    settings = two_site_settings.model_copy(update={"rounds": 4, "strategy_options": options, "payload": payload})
    uncut = federate(settings, tiny_folder, tmp_path / "uncut", arm)

    def cut(line: dict) -> None:
        if line["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        federate(settings, tiny_folder, tmp_path / "cut", arm, on_round=cut)
    assert not ArmFolder(tmp_path / "cut").finished
    resumed = federate(settings, tiny_folder, tmp_path / "cut", arm)
    for which in ("best", "final"):
        assert same(resumed.load_weights(which), uncut.load_weights(which)), which
    assert resumed.read_facts()["best_round"] == uncut.read_facts()["best_round"]


def test_every_strategy_runs_and_keeps_variances_positive(two_site_settings, tiny_folder, tmp_path):
    for arm in ("fedadagrad", "qfedavg"):  # the robust ones need three sites: see test_robust
        settings = two_site_settings.model_copy(
            update={"rounds": 2, "learning_rate": 0.001, "strategy_options": {"fedadagrad": {"eta": 0.01}}}
        )
        final = federate(settings, tiny_folder, tmp_path / arm, arm).load_weights("final")
        assert all(torch.isfinite(v).all() for v in final.values()), arm
        assert all((v >= 0).all() for k, v in final.items() if k.endswith("running_var")), arm


def test_the_best_round_has_the_lowest_validation_loss_averaged_over_sites(
    two_site_settings, tiny_folder, tiny_sites, tmp_path
):
    folder = federate(two_site_settings, tiny_folder, tmp_path)
    history = folder.read_history()
    assert [line["round"] for line in history] == [1, 2, 3]
    expected = sum(len(site.splits["validation"]) for site in tiny_sites.values())
    for line in history:
        assert line["participants"] == ["north", "south"]
        assert line["validation"]["images"] == expected
        assert line["sites"].keys() == two_site_settings.sites.keys()
    losses = [sum(site["class_loss"] for site in line["sites"].values()) for line in history]
    assert folder.read_facts()["best_round"] == 1 + losses.index(min(losses))


def test_the_test_scores_are_those_of_the_best_weights(two_site_settings, tiny_folder, tmp_path):
    folder = federate(two_site_settings, tiny_folder, tmp_path)
    instruction = Instruction(two_site_settings, 7, (0, 1, 2), "test")
    report = work.evaluate(Workspace(tiny_folder, "south", "cpu"), instruction, folder.load_weights("best"))
    assert folder.read_facts()["test"]["sites"]["south"] == report.score.summary()


@pytest.mark.parametrize("arm", ["fedavg", "fedadam"])
def test_dict_and_flat_payloads_give_the_same_result(arm, two_site_settings, tiny_folder, tmp_path):
    finals = {}
    for payload in ("dict", "flat", "flat-fp16"):
        settings = two_site_settings.model_copy(update={"payload": payload})
        finals[payload] = federate(settings, tiny_folder, tmp_path / payload, arm=arm).load_weights("final")
    assert same(finals["dict"], finals["flat"])
    assert not same(finals["flat"], finals["flat-fp16"])
    assert {value.dtype for value in finals["flat-fp16"].values()} == {torch.float32}


def test_two_sites_with_one_name_are_refused(two_site_settings, tiny_folder):
    with pytest.raises(RunError, match="Two sites are called north"):
        register(LocalGrid(tiny_folder, ["north", "north"]), two_site_settings)


def test_only_weights_counts_and_metrics_cross_the_wire(two_site_settings, tiny_folder, tmp_path):
    replies: list[Message] = []

    def keep(site: str, reply: Message) -> None:  # a copy, because the server unpacks a reply in place
        replies.append(Message(RecordDict(dict(reply.content)), 1, reply.metadata.message_type))

    grid = LocalGrid(tiny_folder, list(two_site_settings.sites), spoil=keep)
    grid.models = tmp_path / "models"  # as deployed sites have: they reply with test metrics too
    start = start_state(two_site_settings.model, "none", 7)
    participants = register(grid, two_site_settings)
    participants.approved = grid.names
    run_rounds(
        grid,
        participants,
        Job(two_site_settings, "fedprox", 7, start, ArmFolder(tmp_path / "arm")),
    )
    instructions = {"settings", "seed", "classes", "split", "title", "run", "arm", "task", "server-round"}
    instructions |= {"proximal-mu", "class-counts", "balanced-rows", "collect", "temperature", "calibration", "sites"}
    instructions.add("model")
    values = sum(tensor.numel() for tensor in start.values())
    numbers = {item.key for item in (*REGISTRATION, *REPORT, *TEST_REPORT, *CALIBRATION)}
    assert {message.metadata.message_type for message in grid.sent} == {"query", "train", "evaluate"}
    for message in grid.sent:
        assert message.content.keys() <= {ARRAYS, CONFIG}
        assert message.content[CONFIG].keys() <= instructions
        check_arrays(message, values)
    for reply in replies:
        assert reply.content.keys() <= {ARRAYS, CONFIG, METRICS}
        assert set(reply.content.get(CONFIG, {})) <= {"site", "labels"}
        assert reply.content[METRICS].keys() <= numbers
        check_arrays(reply, values)
    secrets = [str(tiny_folder), ".png", "scans/", *(str(source.path) for source in two_site_settings.sites.values())]
    secrets += [
        group for site in prepare_sites(two_site_settings, tiny_folder).values() for group in site.groups if group
    ]
    said = " ".join(str(dict(message.content.get(CONFIG, {}))) for message in [*grid.sent, *replies])
    assert not [secret for secret in secrets if secret in said]
    sent = {key for reply in replies for key in reply.content[METRICS]}
    assert sent == numbers - {BATCH_NORM_KEY}  # only sent about a model that the coordinator gives


def check_arrays(message: Message, values: int) -> None:
    """Check that the only array is the model, with no pixels or text beside it."""
    if ARRAYS in message.content:
        (array,) = [array.numpy() for array in message.content[ARRAYS].values()]
        assert (array.dtype, array.shape) == (np.float32, (values,))


def test_an_error_at_a_site_tells_the_server_no_path(two_site_settings, tmp_path):
    with pytest.raises(RunError) as refused:
        register(LocalGrid(tmp_path / "ward-7", ["north"]), two_site_settings)
    assert "RunError; see the site's own log" in str(refused.value)
    assert "ward-7" not in str(refused.value)
