"""From a hub and three sites to a report: real processes, consent, and a hub that is killed during a round."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from clients.consent.approve import approve_study
from clients.site.keys import fingerprint
from fedbus.model_folder.read import read_model
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.seeds import derive_seed
from fedbus.settings.load import load_settings
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.transport.messages import EVALUATION, TRAINING, Instruction
from fedbus.transport.study import STUDY_FILE, Study
from server.hub.renewal import renew_certificate
from server.hub.watched_run import open_watched_run
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from server.rounds.registration import register_sites
from simulations.local_federation import PATIENCE_SECONDS, LocalFederation
from tests.deployment.conftest import TIMEOUT_SECONDS, write_settings
from tests.grid import LocalGrid

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


def simulate(settings: Settings, out: Path) -> ArmFolder:
    """The same run in this process, by the same applications."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as at the sites; more threads add in another order
    try:
        prepare_sites(settings, out / "sites")
        secure = settings.privacy == "secure-aggregation"
        roster = make_simulated_keys(out / "sites", settings.sites) if secure else ()
        grid = LocalGrid(out / "sites", list(settings.sites))
        seed = settings.seeds[0]
        participants = register_sites(
            grid, len(settings.sites), Instruction(settings, seed, ()), len(settings.sites), 5, threading.Event()
        )
        start = start_state(settings.model, settings.weights, derive_seed(seed, "init"))
        run_rounds(grid, participants, Job(settings, "fedavg", seed, start, ArmFolder(out / "arm"), sites=roster))
    finally:
        torch.set_num_threads(threads)
    return ArmFolder(out / "arm")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_of(folder: Path) -> list[str]:
    """Command lines of all living processes that name a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def asked(federation: LocalFederation) -> Iterator[LocalFederation]:
    """The federation, with operators who approve studies instead of an application for any study."""
    applications = {name: site.approvals().applications for name, site in federation.sites.items()}
    for name, digests in applications.items():
        for digest in digests:
            federation.sites[name].withdraw(digest)
    yield federation
    for name, digests in applications.items():
        for digest in digests:
            federation.sites[name].approve_any_study(digest)


def consent(federation: LocalFederation, out: Path, name: str) -> Study:
    """Approve the study that the hub has announced at every site, once the hub has asked there."""
    federation.wait_until((out / STUDY_FILE).is_file, name)
    announced = json.loads((out / STUDY_FILE).read_text())
    for site in federation.sites.values():
        federation.wait_until((site.studies / f"{announced['digest']}.json").is_file, name)
        screen = Console(file=io.StringIO(), width=80)
        assert approve_study(site, announced["digest"], screen, lambda: True)
        assert "It is the one installed here." in screen.file.getvalue()
        assert all(
            fingerprint(other.key) in screen.file.getvalue() for other in federation.sites.values() if other != site
        )
    return Study.from_json(announced["study"])


@pytest.fixture(scope="module")
def finished(asked: LocalFederation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds: the hub is killed in the second and started again, and the run is resumed.

    Before the third round, the hub's certificate is renewed, while all processes are running.
    """
    federation = asked
    settings = write_settings(tmp_path_factory.mktemp("settings"), "deployed", rounds=3)
    out = federation.hub.runs / "deployed"
    history = out / "arms" / "fedavg" / "history.jsonl"
    cut = federation.run(settings)
    consent(federation, out, "run")
    federation.wait_until(lambda: history.is_file() and bool(history.read_text()), "run")
    federation.kill("hub")
    assert cut.wait(PATIENCE_SECONDS) == 1
    said = federation.log("run").read_text()
    assert "The hub ended during the run" in said
    assert "--resume" in said
    assert not answers(federation.hub.settings.port)
    federation.start_hub()
    resumed = federation.run(settings, "--resume", "--set", "round-timeout=599")  # not another study
    federation.wait_until(lambda: len(history.read_text().splitlines()) >= 2, "run")
    renew_certificate(federation.hub)
    assert resumed.wait(PATIENCE_SECONDS) == 0, federation.log("run").read_text()
    return out


def test_the_deployed_result_equals_the_simulated_one_bit_for_bit(finished, datasets, tmp_path):
    sites = {name: {"reader": reader, "path": str(path)} for name, (reader, path) in datasets.items()}
    settings = load_settings(write_settings(tmp_path, "simulated", rounds=3, cache=str(tmp_path / "cache")))
    simulated = simulate(settings.model_validate(settings.as_dict() | {"sites": sites}), tmp_path)
    for which in ("final", "best"):
        deployed, expected = load_file(finished / f"arms/fedavg/{which}.safetensors"), simulated.load_weights(which)
        assert deployed.keys() == expected.keys()
        assert all(torch.equal(deployed[key], expected[key]) for key in expected)
    here, there = ArmFolder(finished / "arms" / "fedavg").read_history(), simulated.read_history()
    assert [line["validation"] for line in here] == [line["validation"] for line in there]
    assert [line["participants"] for line in here] == [["east", "north", "south"]] * 3


def test_every_site_ran_the_one_study_that_it_had_approved(finished, federation):
    study = Study.from_json(json.loads((finished / STUDY_FILE).read_text())["study"])
    assert (study.task, set(study.sites)) == (TRAINING, set(federation.sites))
    assert f"study {study.digest}" in federation.log("run").read_text(), "also when it is resumed"
    for site in federation.sites.values():
        assert study.digest in [each.study for each in site.approvals().studies]
        assert site.approvals().applications == ()
        assert "study not approved" in {entry.event for entry, _ in site.audit.read().entries}, "before"


def test_every_site_received_the_best_model_with_its_own_metrics(finished, federation):
    results = json.loads((finished / "results.json").read_text())
    for name, site in federation.sites.items():
        folder = site.models / "deployed-fedavg-0"
        model, best = load_file(folder / "model.safetensors"), load_file(finished / "arms/fedavg/best.safetensors")
        assert all(torch.equal(model[key], best[key]) for key in best)
        own = json.loads((folder / "metrics.json").read_text())
        assert own["accuracy"] == results["arms"]["fedavg"][name]["accuracy"]
        assert own["images"] == sum(results["sites"][name]["splits"]["test"].values())


def test_the_hub_has_a_report_and_not_a_single_prediction(finished, datasets):
    page = (finished / "report.html").read_text()
    assert "FedAvg" in page
    assert all(name in page for name in datasets)
    assert not list(finished.rglob("predictions.csv"))
    published = "".join(path.read_text() for path in finished.rglob("*.json")) + page
    assert not any(
        word in published for word in (".png", "scans/", "Benign/", *(str(path) for _, path in datasets.values()))
    )


def test_the_page_of_the_run_shows_which_sites_are_connected(finished, federation):
    found = open_watched_run(finished).read()
    assert found.state == "finished"
    assert [site.connection for site in found.sites] == ["online"] * len(federation.sites)
    results = json.loads((finished / "results.json").read_text())
    assert {site.name: site.images for site in found.sites} == {
        name: facts["images"] for name, facts in results["sites"].items()
    }


def test_every_site_tests_a_given_model_and_keeps_nothing(finished, federation):
    models = {name: sorted(site.models.iterdir()) for name, site in federation.sites.items()}
    evaluating = federation.spawn("evaluate", ["hub", "evaluate", str(federation.hub.path), f"{finished}/arms/fedavg"])
    study = consent(federation, federation.hub.runs / "evaluation-deployed-fedavg-0", "evaluate")
    assert study.task == EVALUATION, "a study of its own"
    assert evaluating.wait(PATIENCE_SECONDS) == 0, federation.log("evaluate").read_text()
    out = federation.hub.runs / "evaluation-deployed-fedavg-0"
    found, trained = (
        json.loads((out / "evaluation.json").read_text()),
        json.loads((finished / "results.json").read_text()),
    )
    assert found["failures"] == {}
    for name, site in federation.sites.items():
        assert found["sites"][name]["metrics"] == trained["arms"]["fedavg"][name], "the run's own test, once more"
        assert sorted(site.models.iterdir()) == models[name]
        assert read_model(site.models / "deployed-fedavg-0").facts.run == read_model(out / "given").facts.run
    assert found["all"] == trained["arms"]["fedavg"]["all"]
    assert "north" in (out / "report.html").read_text()


def test_hub_and_sites_have_on_record_what_they_did_and_no_image(finished, federation, datasets):
    hub = federation.hub.audit.read()
    events = [entry.event for entry, _ in hub.entries if entry.details.get("run") == "deployed"]
    assert hub.faults == []
    assert events == ["run started", "run ended", "run resumed", "model written", "run ended"]
    for name, site in federation.sites.items():
        chain, model = site.audit.read(), read_model(site.models / "deployed-fedavg-0")
        own = [entry for entry, _ in chain.entries if entry.details.get("run") == "deployed-fedavg-0"]
        updates = [entry for entry in own if entry.event == "update sent"]
        assert chain.faults == []
        assert sorted({entry.details["round"] for entry in updates}) == [1, 2, 3]
        assert all(len(entry.details["sha256"]) == 64 and entry.details["values"] > 0 for entry in updates)
        assert {"registration sent", "scores sent"} <= {entry.event for entry in own}
        received = [entry for entry, _ in chain.entries if entry.event == "model received"]
        assert received[-1].details["sha256"] == model.digest, name
        text = site.audit.path.read_text()
        assert not any(word in text for word in (".png", "scans/", "Benign/", str(datasets[name][1])))


def test_nothing_is_left_behind_when_all_leave(finished, federation):
    for name in [*federation.sites, "hub"]:
        federation.leave(name)
    for name in ("run", "evaluate"):
        federation.processes.pop(name, None)
    assert processes_of(federation.folder) == []
    ports = [federation.hub.settings.port, federation.hub.settings.superlink_port]
    ports += [site.settings.runtime_port for site in federation.sites.values()]
    assert not any(answers(port) for port in ports)
