"""`fedbus hub evaluate`: what the sites answer, what the hub makes of it, and what it refuses before it asks."""

import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message

from fedbus.deployment.application import OTHER_VERSION
from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.metrics import confusion_matrix
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.site_scores import SiteScores, score_site
from fedbus.model_folder.apply import adapt_statistics, open_model
from fedbus.model_folder.read import read_model
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import State, set_state
from fedbus.reports.hub_evaluation.page import render_page
from fedbus.runs.folder import record_run, run_id
from fedbus.settings.schema import Settings
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import open_site, read_facts
from fedbus.system.files import read_json, write_json
from fedbus.transport.allow_list import REGISTRATION, REPORT, TEST_REPORT
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, SEEN
from server.hub import evaluation
from server.hub.deployed_run import PLAN_FILE, run_deployment
from server.hub.evaluation import evaluate_model
from server.hub.evaluation_run import read_answers
from server.hub.folder import HubFolder, init_hub
from server.hub.run_status import read_status
from server.rounds import evaluation as asking
from server.rounds import messaging, registration
from tests.approved_sites import approved_site
from tests.given_model import model_folder
from tests.grid import LocalGrid

NODES = {101: "north", 102: "south"}


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messaging, "pause_after", lambda seconds: 0.01)
        patch.setattr(registration, "CONNECTION_POLL_SECONDS", 0.01)
        patch.setattr(asking, "CONNECT_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module")
def prepared(two_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both sites work."""
    folder = tmp_path_factory.mktemp("sites")
    prepare_sites(two_site_settings, folder)
    return folder


@pytest.fixture(scope="module")
def hub(quick, prepared: Path, two_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    """A hub with a finished run, in which each site keeps its BatchNorm for itself."""
    found = init_hub(tmp_path_factory.mktemp("hub") / "hub", "hub.example.org")
    for number, name in NODES.items():
        found.add_site(approved_site(name, number))
    changes = {"arms": ("fedavg",), "sites": {}, "batch_norm": "local", "rounds": 2}
    train(found.runs / "first", prepared, two_site_settings.model_copy(update=changes))
    return found


def train(out: Path, prepared: Path, settings: Settings) -> None:
    """Train a run of the hub with both sites."""
    out.mkdir(parents=True)
    record_run(out, settings)
    write_json(out / PLAN_FILE, {"title": out.name, "nodes": {name: node for node, name in NODES.items()}, "sites": []})
    run_deployment(deployed_grid(prepared, out.parent), out)


def deployed_grid(prepared: Path, folder: Path, names: tuple[str, ...] = ("north", "south")) -> LocalGrid:
    grid = LocalGrid(prepared, names)
    grid.models = folder / "received"
    return grid


def ask(hub: HubFolder, model: Path, grid: LocalGrid, monkeypatch, name: str | None = None, *, resume: bool = False):
    monkeypatch.setattr(evaluation, "is_up", lambda _: True)
    monkeypatch.setattr(evaluation, "stage_application", lambda _: (hub.path, "0" * 64))
    monkeypatch.setattr(evaluation, "start_and_follow", lambda hub, application, out, log: run_deployment(grid, out))
    out = hub.runs / name if name else None
    return evaluate_model(hub, model, out, resume=resume, log=lambda line: None)


def scores_of(prepared: Path, settings: Settings, name: str, state: State, adapt: bool = False) -> SiteScores:
    """The scores at a site, computed without messages."""
    site, model = open_site(prepared, name), place_model(settings.model, pick_device("cpu"))
    set_state(model, state)
    if adapt:
        adapt_statistics(model, site.pixels[np.unique(site.splits["train"])], settings)
    return score_site(predict_split(model, site, "test", settings), settings.bootstrap, settings.draw_seed)


def found_scores(out: Path) -> dict[str, dict]:
    return {name: site["scores"] for name, site in read_answers(out)["sites"].items()}


def test_an_arm_of_a_hub_is_a_model_folder_without_what_never_left_the_sites(hub, prepared):
    folder = read_model(hub.runs / "first/arms/fedavg")
    facts = folder.facts
    assert (facts.arm, facts.run, facts.batch_norm) == ("fedavg", run_id(hub.runs / "first"), "local")
    assert facts.seen is None
    assert all(site.own is None for site in facts.sites.values())
    for name, site in facts.sites.items():
        there = open_site(prepared, name)
        assert list(site.images.values()) == np.bincount(there.labels[there.splits["train"]], minlength=3).tolist()
    assert not facts.complete
    with pytest.raises(RunError, match="BatchNorm arrays of north, which never leave it"):
        open_model(folder, "north")


def test_a_received_model_predicts_as_the_site_tested_it(hub, prepared):
    folders = [read_model(path) for path in sorted((hub.runs / "received").iterdir())]
    assert [list(folder.facts.sites) for folder in folders] == [["north"], ["south"]]
    for folder in folders:
        (name,) = folder.facts.sites
        applied, site = open_model(folder, name, device="cpu"), open_site(prepared, name)
        rows = site.splits["test"]
        found = confusion_matrix(site.labels[rows], applied.predict(site.pixels[rows]).argmax(axis=1))
        assert applied.arrays == "own"
        assert folder.facts.calibration == read_model(hub.runs / "first/arms/fedavg").facts.calibration is not None
        assert found.tolist() == read_json(folder.path / "metrics.json")["confusion"]


def test_the_model_of_a_run_gets_the_figures_of_its_final_test(hub, prepared, monkeypatch):
    grid = deployed_grid(prepared, hub.path)
    results = ask(hub, hub.runs / "first/arms/fedavg", grid, monkeypatch)
    (out,) = hub.runs.glob("evaluation-first-fedavg-0")
    done = read_json(hub.runs / "first/arms/fedavg/done.json")
    for name, scores in found_scores(out).items():
        assert scores == done["site_scores"][name]
    assert {name: site["batch_norm"] for name, site in results["sites"].items()} == {"north": "own", "south": "own"}
    assert results["all"]["images"] == sum(site["metrics"]["images"] for site in results["sites"].values())
    assert read_status(out).state == "finished"
    assert not (hub.path / "received").exists(), "sites keep no model that they only test"


def test_a_run_that_recalibrates_is_evaluated_with_the_same_statistics(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    out = hub.runs / "recalibrated"
    changes = {"arms": ("fedavg",), "sites": {}, "recalibrate": True, "balance": "federation", "rounds": 1}
    train(out, prepared, two_site_settings.model_copy(update=changes))
    grid = deployed_grid(prepared, tmp_path, ("north",))  # the sums over both sites are those of the run
    results = ask(hub, out / "arms/fedavg", grid, monkeypatch)
    done = read_json(out / "arms/fedavg/done.json")
    assert found_scores(hub.runs / "evaluation-recalibrated-fedavg-0") == {"north": done["site_scores"]["north"]}
    assert results["sites"]["north"]["batch_norm"] == "own"


def test_a_site_whose_images_have_changed_since_the_training_is_left_out(hub, prepared, tmp_path, monkeypatch):
    path = hub.runs / "first" / "registrations.json"
    before = path.read_text()
    changed = json.loads(before)
    changed["south"]["splits"]["train"][0] += 1
    path.write_text(json.dumps(changed))
    try:
        results = ask(hub, hub.runs / "first/arms/fedavg", deployed_grid(prepared, tmp_path), monkeypatch, "changed")
    finally:
        path.write_text(before)
    assert list(results["sites"]) == ["north"]
    assert "images have changed" in results["failures"]["south"]


def test_only_the_model_and_listed_numbers_cross_the_wire(hub, prepared, two_site_settings, tmp_path, monkeypatch):
    replies: list[Message] = []
    grid = deployed_grid(prepared, tmp_path)
    grid.spoil = lambda site, reply: replies.append(reply)
    hashes = np.random.default_rng(0).integers(0, 256, (5, 32), dtype=np.uint8)
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3), hashes)
    ask(hub, given, grid, monkeypatch)
    assert [message.metadata.message_type for message in grid.sent] == ["query"] * 2 + ["evaluate"] * 2
    for message in grid.sent:
        assert message.content.keys() <= {ARRAYS, CONFIG, SEEN}
        assert message.content[CONFIG]["task"] == "evaluation"
        assert "east" not in str(dict(message.content[CONFIG])), "nor the sites that the model was trained at"
    listed = {item.key for item in (*REGISTRATION, *REPORT, *TEST_REPORT)}
    for reply in replies:
        assert reply.content.keys() <= {CONFIG, METRICS}
        assert reply.content[METRICS].keys() <= listed


def test_a_model_from_elsewhere_is_tested_on_the_test_rows_of_its_settings(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    state = start_state("test_resnet", "none", 3)
    given = model_folder(tmp_path / "given", two_site_settings, state, np.zeros((1, 32), dtype=np.uint8))
    results = ask(hub, given, deployed_grid(prepared, tmp_path), monkeypatch, "elsewhere")
    for name, scores in found_scores(hub.runs / "elsewhere").items():
        assert scores == json.loads(json.dumps(scores_of(prepared, two_site_settings, name, state).to_metrics()))
    assert {site["batch_norm"] for site in results["sites"].values()} == {"shared"}
    assert "the model is from elsewhere" in render_page(results)


def test_a_site_without_its_own_batch_norm_adapts_that_of_the_others(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    """The two sites took part in the run; this model claims to be of another run, which they do not remember."""
    settings = two_site_settings.model_copy(update={"batch_norm": "local"})
    state = start_state("test_resnet", "none", 3)
    monkeypatch.setattr("clients.given_model.LEAST_TO_ADAPT", 8)
    given = model_folder(tmp_path / "given", settings, state)
    results = ask(hub, given, deployed_grid(prepared, tmp_path), monkeypatch, "adapted")
    for name, scores in found_scores(hub.runs / "adapted").items():
        expected = scores_of(prepared, two_site_settings, name, state, adapt=True).to_metrics()
        assert scores == json.loads(json.dumps(expected))
    page = render_page(results)
    assert "north, south they were estimated from the site" in " ".join(page.split())
    assert "no fingerprints" in page


def test_too_few_images_to_adapt_to_are_a_refusal(hub, prepared, two_site_settings, tmp_path, monkeypatch):
    settings = two_site_settings.model_copy(update={"batch_norm": "local"})
    given = model_folder(tmp_path / "given", settings, start_state("test_resnet", "none", 3))
    with pytest.raises(RunError, match="No site could test the model"):
        ask(hub, given, deployed_grid(prepared, tmp_path), monkeypatch, "few")


def test_images_near_to_training_images_are_left_out_with_their_group(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    site = open_site(prepared, "south")
    rows = site.splits["test"]
    hashes = read_hashes(Path(read_facts(prepared)["south"]["pixels"]))[rows]
    groups = np.unique(site.groups[rows])[:2]
    one_each = [int(np.flatnonzero(site.groups[rows] == group)[0]) for group in groups]
    altered = hashes[one_each].copy()
    altered[:, 0] ^= 0b111  # three bits: near
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3), altered)
    results = ask(hub, given, deployed_grid(prepared, tmp_path), monkeypatch, "near")
    assert results["sites"]["south"]["left_out"] == np.isin(site.groups[rows], groups).sum()
    assert results["sites"]["south"]["metrics"]["images"] == (~np.isin(site.groups[rows], groups)).sum()
    assert results["sites"]["north"]["left_out"] == 0


def test_sites_that_did_not_answer_are_asked_again_with_resume(hub, prepared, two_site_settings, tmp_path, monkeypatch):
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    first = ask(hub, given, deployed_grid(prepared, tmp_path, ("north",)), monkeypatch, "twice")
    assert (list(first["sites"]), first["failures"]) == (["north"], {"south": "not connected"})
    with pytest.raises(RunError, match="already contains a run"):
        ask(hub, given, deployed_grid(prepared, tmp_path), monkeypatch, "twice")
    grid = deployed_grid(prepared, tmp_path)
    both = ask(hub, given, grid, monkeypatch, "twice", resume=True)
    assert {grid.names[message.metadata.dst_node_id] for message in grid.sent} == {"south"}
    assert (list(both["sites"]), both["failures"]) == (["north", "south"], {})
    assert both["sites"]["north"] == first["sites"]["north"]
    other = model_folder(tmp_path / "other", two_site_settings, start_state("test_resnet", "none", 4))
    with pytest.raises(RunError, match="started with another model"):
        ask(hub, other, grid, monkeypatch, "twice", resume=True)


def test_a_site_of_another_version_is_named_and_the_others_answer(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    def too_old(site: str, message: Message) -> Message:
        words = "another version of FedBUS is installed there"
        return Message(Error(OTHER_VERSION, words), reply_to=message) if site == "north" else NotImplemented

    grid = deployed_grid(prepared, tmp_path)
    grid.hook = too_old
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    results = ask(hub, given, grid, monkeypatch, "versions")
    assert list(results["sites"]) == ["south"]
    assert "another version of FedBUS is installed there" in results["failures"]["north"]
    assert results["all"]["images"] == results["sites"]["south"]["metrics"]["images"]


def test_if_no_site_can_test_the_model_every_reason_is_given(hub, prepared, two_site_settings, tmp_path, monkeypatch):
    grid = deployed_grid(prepared, tmp_path)
    answer = grid.app

    def deny(message: Message, context: object) -> Message:
        if message.metadata.message_type == "evaluate":
            return Message(Error(1, "This site refuses the study"), reply_to=message)
        return answer(message=message, context=context)

    grid.app = deny
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    with pytest.raises(RunError, match=r"north: failed: This site refuses the study, south: failed"):
        ask(hub, given, grid, monkeypatch, "denied")
    assert not (hub.runs / "denied/evaluation.json").exists()


def test_no_connected_site_is_an_error_with_every_name(hub, prepared, two_site_settings, tmp_path, monkeypatch):
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3))
    with pytest.raises(RunError, match="Only 0 of 1 sites connected within 0 s; north, south did not"):
        ask(hub, given, deployed_grid(prepared, tmp_path, ()), monkeypatch, "nobody")
    assert read_status(hub.runs / "nobody").state == "failed"


def test_a_reply_that_can_not_be_about_the_sites_rows_is_not_counted(
    hub, prepared, two_site_settings, tmp_path, monkeypatch
):
    def claim_more(site: str, reply: Message) -> None:
        if site == "north" and "confusion" in reply.content[METRICS]:
            reply.content[METRICS]["confusion"] = [1000] * 9

    grid = deployed_grid(prepared, tmp_path)
    grid.spoil = claim_more
    hashes = np.zeros((1, 32), dtype=np.uint8)  # with them, fewer images are allowed, never more
    given = model_folder(tmp_path / "given", two_site_settings, start_state("test_resnet", "none", 3), hashes)
    results = ask(hub, given, grid, monkeypatch, "claims")
    assert list(results["sites"]) == ["south"]
    assert "another number of images" in results["failures"]["north"]
