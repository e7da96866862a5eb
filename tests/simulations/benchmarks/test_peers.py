"""The table of `make bench-peers`; every installed peer ends with our weights, because it does our work."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.seeds import derive_seed
from fedbus.system.processes import environment_with
from simulations.benchmarks import peers
from simulations.benchmarks.case import Case
from simulations.benchmarks.federation import run_bare
from simulations.benchmarks.peer_install import PEER_FOLDERS, find_peer
from simulations.benchmarks.peer_memory import family_peak
from simulations.benchmarks.peer_result import Trained, check_steps, score_test
from simulations.benchmarks.peer_table import peer_table, ratios, row_of
from simulations.benchmarks.peers import FRAMEWORKS, Framework
from simulations.benchmarks.site_work import SiteWork

ROOT = Path(__file__).resolve().parents[3]

RESULT = {
    "prepared_seconds": 2.0,
    "ends": [110.0, 114.0, 119.0, 123.0],
    "steps": [13, 13, 13, 13],
    "test": {"accuracy": {"value": 0.5, "low": 0.3, "high": 0.7}, "images": 36},
}


@pytest.fixture
def rows(tmp_path):
    """Our row and one of another framework, whose rounds take twice as long."""
    save_file({"a": torch.tensor([1.0, 2.0])}, tmp_path / "ours.safetensors")
    save_file({"a": torch.tensor([1.0, 2.25])}, tmp_path / "pfl-matched.safetensors")
    slow = RESULT | {"ends": [110.0, 118.0, 128.0, 136.0]}
    return [
        row_of("ours", "1.0", RESULT, 100.0, 3_000_000, tmp_path),
        row_of("pfl-matched", "0.6", slow, 100.0, 0, tmp_path),
    ]


def test_a_row_has_the_median_round_after_the_first_and_the_start_without_preparation(rows):
    ours, other = rows
    assert ours["round_s"] == 4.0
    assert ours["start_s"] == pytest.approx(110 - 4 - 100 - 2)
    assert ours["peak_mb"] == 3.0
    assert (ours["largest_weight_difference"], other["largest_weight_difference"]) == (0.0, 0.25)
    assert ratios(rows) == {"pfl_matched_over_ours": 2.0}
    assert ratios(rows[1:]) == {}


def test_without_our_weights_there_is_no_difference(tmp_path):
    assert row_of("pfl", "", RESULT, 100.0, 0, tmp_path)["largest_weight_difference"] is None


def test_the_table_has_a_line_per_framework_and_the_reasons_for_missing_ones(rows):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(peer_table(rows, {"nvflare": "no network"}))
    text = console.export_text()
    assert "ours 1.0" in text
    assert "0.500 (0.300 to 0.700)" in text
    assert "2.00" in next(line for line in text.splitlines() if "pfl-matched 0.6" in line)
    assert "nvflare: no network" in text


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
def test_every_framework_is_a_program(framework: Framework):
    path = ROOT / "simulations" / "benchmarks" / f"{framework.arguments[0]}.py"
    assert "__main__" in path.read_text()


def test_a_peer_that_can_not_be_installed_is_missing_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "install_peer", lambda name: "no network")
    framework = next(each for each in FRAMEWORKS if each.peer)
    assert peers.run_framework(framework, tmp_path) == "no network"


def test_a_program_that_fails_is_missing_and_leaves_no_old_result(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "settings.json").write_text("{}")
    reason = peers.run_framework(Framework("bad", "no such program", ("nothing_of_that_name",)), tmp_path)
    assert "No module named" in str(reason)
    assert not (tmp_path / "bad.json").exists()


def test_other_than_our_steps_are_refused(tiny_case: Case):
    work = SiteWork(tiny_case.settings, tiny_case.sites)
    steps = [sum(work.steps(name) for name in work.rows)] * tiny_case.settings.rounds
    ends = [1.0] * tiny_case.settings.rounds
    check_steps(Trained(ends, steps, {}), tiny_case)
    for wrong in (Trained(ends, [*steps[:-1], steps[-1] + 1], {}), Trained(ends[1:], steps[1:], {})):
        with pytest.raises(RunError, match="were expected"):
            check_steps(wrong, tiny_case)


def test_weights_are_scored_on_the_test_rows_of_all_sites(tiny_case: Case):
    scores = score_test(tiny_case, tiny_case.start)
    assert scores["images"] == sum(len(site.splits["test"]) for site in tiny_case.sites.values())
    assert scores["accuracy"]["low"] <= scores["accuracy"]["value"] <= scores["accuracy"]["high"]


def test_the_peak_is_that_of_a_program_and_its_children():
    grandchild = "data = bytearray(60_000_000); data[::4096] = b'1' * len(data[::4096]); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as program:
        with family_peak(program.pid) as peak:
            while peak.most < 60_000_000 and program.poll() is None:
                peak.look()
        program.communicate(b"\n")
    assert peak.most >= 60_000_000


@pytest.fixture
def one_thread():
    """Another number of threads adds in another order, and AdamW makes whole steps of the difference."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(1200)  # a hang, not a slow machine
@pytest.mark.parametrize("name", ["pfl-matched", "fluke", "nvflare"])
def test_a_peer_with_our_steps_ends_with_our_weights(tiny_case: Case, tmp_path, one_thread, name):
    """After one round: later, AdamW makes whole steps of differences in the last bit."""
    framework = next(each for each in FRAMEWORKS if each.name == name)
    folder = PEER_FOLDERS / framework.peer
    if not find_peer(framework.peer, folder):
        pytest.skip(f"{framework.peer} is not installed in {folder}: run make bench-peers")
    settings = tiny_case.settings.model_copy(update={"rounds": 1})
    start = start_state(settings.model, settings.weights, derive_seed(settings.seeds[0], "init"))  # as `make_case`
    values, out = tmp_path / "settings.json", tmp_path / f"{name}.json"
    values.write_text(json.dumps(settings.as_dict()))
    command = [sys.executable, "-m", f"simulations.benchmarks.{framework.arguments[0]}", str(values), str(out)]
    environment = environment_with({"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"})
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=1000, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found, ours = (
        load_file(out.with_suffix(".safetensors")),
        run_bare(replace(tiny_case, settings=settings, start=start)).final,
    )
    assert found.keys() == ours.keys()
    for key, expected in ours.items():
        torch.testing.assert_close(found[key], expected, atol=1e-6, rtol=1e-5, msg=key)
    assert len(json.loads(out.read_text())["ends"]) == 1
