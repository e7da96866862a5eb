"""The benchmark beside busy loops: its figures, and which variables its processes see."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import psutil
import pytest
import torch

from fedbus.system.files import read_json, write_json
from fedbus.system.threads import VARIABLES, waiting_policy
from simulations.benchmarks import loaded

TINY = {"model": "test_resnet", "weights": "none", "image-size": 32, "batch-size": 2, "precision": "float32"}


@pytest.mark.parametrize(
    ("threads", "loops", "cores", "share"), [(2, 2, 2, 2), (1, 2, 2, 1.5), (4, 2, 8, 1), (16, 2, 16, 1.125)]
)
def test_the_fair_share_divides_the_cores_among_all_threads(threads, loops, cores, share):
    assert loaded.fair_share(threads, loops, cores) == share


def test_figures_are_medians_and_ratios_of_each_turn():
    found = {
        "ours": {"quiet": [1.0, 2.0, 3.0], "loaded": [2.0, 5.0, 9.0]},
        "default": {"quiet": [1.0, 1.0, 2.0], "loaded": [8.0, 5.0, 8.0]},
    }
    assert loaded.figures(found, 2, 2) == {
        "threads": 2,
        "fair_share": 2.0,
        "quiet_s": 2.0,
        "quiet_default_s": 1.0,
        "loaded_s": 5.0,
        "loaded_default_s": 8.0,
        "quiet_over_default": 1.5,
        "loaded_over_fair_share": 2.5 / 2,  # of 2, 2.5 and 3
        "loaded_default_over_fair_share": 5 / 2,
    }


def test_each_process_waits_in_its_own_way_and_the_environment_stays():
    before = dict(os.environ)
    with loaded.waiting_process({"KMP_BLOCKTIME": "3"}) as process:
        seen = {name: process.submit(os.getenv, name).result() for name in VARIABLES}
    assert seen == {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": "3"}
    assert dict(os.environ) == before


def test_loops_run_beside_the_loaded_steps_and_end():
    with loaded.busy_loops(2) as loops:
        assert [psutil.Process(loop.pid).is_running() for loop in loops] == [True, True]
        assert {os.getsid(loop.pid) for loop in loops} == {os.getsid(0)}
    assert not any(psutil.pid_exists(loop.pid) for loop in loops)


def test_the_part_measures_both_ways_with_one_thread_and_with_all(tmp_path, monkeypatch):
    turns = {"quiet": [1.0], "loaded": [3.0]}
    asked = []

    def measure(settings, policies, threads, steps, turns_taken):
        asked.append((settings, policies, threads))
        return {"ours": {"quiet": [1.0], "loaded": [1.5 * threads]}, "default": turns}

    monkeypatch.setattr(loaded, "measure", measure)
    monkeypatch.setattr(loaded.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(loaded.torch, "get_num_threads", lambda: 3)
    write_json(tmp_path / "settings.json", TINY)
    loaded.main(tmp_path / "settings.json", tmp_path / "out.json")
    found = read_json(tmp_path / "out.json")
    policies = {"ours": waiting_policy(), "default": loaded.LIBRARY_DEFAULT}
    assert asked == [(TINY, policies, 1), (TINY, policies, 3)]
    assert [row["threads"] for row in found["rows"]] == [1, 3]
    assert found["loaded_over_fair_share"] == pytest.approx(4.5 / (5 / 3))
    assert found["quiet_over_default"] == 1.0


def test_steps_are_timed_in_every_turn(monkeypatch):
    loads = []
    monkeypatch.setattr(loaded, "waiting_process", lambda policy: ThreadPoolExecutor(1))  # starts faster
    monkeypatch.setattr(loaded, "busy_loops", lambda count: nullcontext(loads.append(count)))
    found = loaded.measure(TINY, {"one": {}}, threads=torch.get_num_threads(), steps=1, turns=2)
    assert [len(found["one"][load]) for load in ("quiet", "loaded")] == [2, 2]
    assert min(found["one"]["quiet"] + found["one"]["loaded"]) > 0
    assert loads == [loaded.LOOPS] * 2
