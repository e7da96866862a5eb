"""What goes wrong between hospitals, with real processes on loopback: nothing is lost, and the run says what it was."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from clients.site.folder import open_site_folder
from fedbus.system.locks import is_held
from server.hub.run_status import RUNNING
from simulations.local_federation import LocalFederation
from tests.deployment.conftest import write_settings
from tests.deployment.relay import Relay

pytestmark = pytest.mark.timeout(600)  # real processes start, wait for one another and are waited for

TAMPERED = str(Path(__file__).with_name("tampered.py"))

ROUNDS = 12
"""Of the troubled run: a site starts anew within a few, on a busy machine as well."""


def history_of(out: Path) -> list[dict[str, Any]]:
    path = out / "arms" / "fedavg" / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for(ready: Callable[[], bool], federation: LocalFederation, seconds: float = 120) -> None:
    try:
        federation.wait_until(ready, "run", seconds)
    except Exception as error:
        raise AssertionError(federation.log("run").read_text()) from error


def start_tampered(federation: LocalFederation, name: str, *modes: str) -> None:
    federation.leave(name)
    federation.spawn(name, [*modes, "--", "site", "join", str(federation.sites[name].path)], (TAMPERED,))


def start_sound(federation: LocalFederation, name: str) -> None:
    if name in federation.processes:
        federation.leave(name)
    federation.start_site(name)


@pytest.fixture(scope="module")
def line(federation: LocalFederation) -> Iterator[Relay]:
    """East's line to the hub, through which it joins anew."""
    relay, site = Relay(federation.hub.settings.port), federation.sites["east"]
    federation.leave("east")
    text = site.settings_file.read_text()
    site.settings_file.write_text(text.replace(site.settings.hub, f"localhost:{relay.port}"))
    federation.sites["east"] = open_site_folder(site.path)
    federation.start_site("east")
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def troubled(federation: LocalFederation, line: Relay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a quorum of two, in which something goes wrong in five rounds; the rest are for coming back."""
    settings = write_settings(tmp_path_factory.mktemp("study"), "troubled", rounds=ROUNDS, quorum=2, round_timeout=40)
    out = federation.hub.runs / "troubled"
    start_tampered(federation, "south", "nan@1", "shape@2", "norm@3", "full")
    run = federation.run(settings)
    wait_for(lambda: len(history_of(out)) == 3, federation)
    federation.kill("north")  # round 4 has begun, with an order on its way to it
    federation.start_site("north")
    wait_for(lambda: len(history_of(out)) == 4, federation)
    line.cut()
    time.sleep(3)
    line.mend()
    assert run.wait(280) == 0, federation.log("run").read_text()
    return out


def test_broken_updates_are_refused_by_name_and_the_round_goes_on(troubled):
    words = ("not finite", "values, not", "times the model's norm")
    for entry, reason in zip(history_of(troubled), words, strict=False):
        assert entry["participants"] == ["east", "north"]
        assert reason in entry["refused"]["south"]


def test_a_site_that_is_killed_in_mid_round_is_done_without_and_takes_part_again(troubled):
    entries = history_of(troubled)
    assert entries[3]["participants"] == ["east", "south"]
    assert list(entries[3]["refused"]) == ["north"]
    assert any("north" in entry["participants"] for entry in entries[4:])


def test_a_line_that_was_cut_for_a_while_costs_no_round(troubled):
    assert "east" in history_of(troubled)[4]["participants"]
    assert len(history_of(troubled)) == ROUNDS


def test_a_site_whose_disk_is_full_is_named_and_the_others_have_the_model(troubled, federation):
    scores = json.loads((troubled / "arms/fedavg/done.json").read_text())["site_scores"]
    assert sorted(scores) == ["east", "north"]
    assert "could not be written" in federation.log("south").read_text()
    models = federation.sites["south"].models
    assert not [path for path in models.rglob("*") if path.is_file()], "no fragment is left"
    for name in ("east", "north"):
        assert (federation.sites[name].models / "troubled-fedavg-0" / "model.safetensors").is_file()


def test_sites_that_prepared_something_else_are_refused_at_the_start(troubled, federation, tmp_path):
    start_tampered(federation, "north", "size")
    start_tampered(federation, "south", "labels")
    run = federation.run(write_settings(tmp_path, "misfits"))
    assert run.wait(120) == 1
    said = " ".join(federation.log("run").read_text().split())
    assert "north prepared images of 48 pixels, not 32" in said
    assert "south has the classes benign, cancer, normal" in said
    assert not history_of(federation.hub.runs / "misfits")


@pytest.fixture(scope="module")
def stopped(troubled, federation: LocalFederation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose run somebody ends with Ctrl-C after its first round; all sites are sound."""
    for name in ("north", "south"):
        start_sound(federation, name)
    settings = write_settings(tmp_path_factory.mktemp("study"), "lonely", rounds=40, round_timeout=40)
    out = federation.hub.runs / "lonely"
    run = federation.run(settings)
    wait_for(lambda: len(history_of(out)) >= 1, federation)
    federation.leave("run")
    assert run.returncode == 130
    return settings


def test_ctrl_c_ends_the_run_at_the_hub_and_keeps_its_rounds(stopped, federation):
    said = federation.log("run").read_text()
    assert "Finished rounds are kept" in said
    assert "--resume" in said
    out = federation.hub.runs / "lonely"
    deadline = time.monotonic() + 90
    while is_held(out / RUNNING):
        assert time.monotonic() < deadline, "the run goes on"
        time.sleep(0.2)
    rounds = len(history_of(out))
    time.sleep(4)
    assert len(history_of(out)) == rounds >= 1


def test_with_two_of_three_gone_the_run_waits_says_for_whom_and_keeps_the_last_model(stopped, federation):
    out = federation.hub.runs / "lonely"
    before = len(history_of(out))
    run = federation.run(stopped, "--resume")
    wait_for(lambda: len(history_of(out)) > before, federation)
    for name in ("north", "south"):
        federation.leave(name)
    assert run.wait(240) == 1
    said = " ".join(federation.log("run").read_text().split())
    assert "waiting for north, south" in said
    assert "north, south did not come" in said
    assert "--resume" in said
    rounds = len(history_of(out))
    assert before < rounds < 40
    kept = load_file(out / "arms/fedavg/checkpoint.safetensors")
    assert any(key.startswith("model/") for key in kept)
    assert (out / "arms/fedavg/best.safetensors").is_file()
