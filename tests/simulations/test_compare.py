"""The whole job by its command line, on small archives, with Flower and Ray as a user runs them."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.archives import make_bus_bra, make_bus_uclm, make_busi

SETTINGS = {
    "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 8, "rounds": 2, "folds": 3,
    "bootstrap": 50, "learning-rate": 0.01, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("archives")
    return {
        "busi": make_busi(root / "busi", {"benign": 15, "malignant": 12, "normal": 12}, seed=1),
        "bus-uclm": make_bus_uclm(root / "bus-uclm", {"benign": 30, "malignant": 30, "normal": 40}, seed=2),
        "bus-bra": make_bus_bra(root / "bus-bra", {"benign": 16, "malignant": 14}, seed=3),
    }


def command(archives: dict[str, Path], out: Path, *more: str, **settings: object) -> list[str]:
    sites = [f"--site={name}={path}" for name, path in archives.items()]
    values = SETTINGS | {"cache": out.parent / "cache"} | {k.replace("_", "-"): v for k, v in settings.items()}
    sets = [f"--set={key}={value}" for key, value in values.items()]
    return [sys.executable, "-m", "fedbus", "compare", *sites, "--out", str(out), *sets, *more]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=280, env=environment, check=False)


@pytest.fixture(scope="module")
def finished(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs") / "first"
    done = run(command(archives, out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout + done.stderr


ARMS = {"local-busi", "local-bus-uclm", "local-bus-bra", "centralised", "fedavg", "fedprox"}


def test_results_hold_every_arm_at_every_site_with_intervals(finished, archives):
    results = json.loads((finished[0] / "results.json").read_text())
    assert results["arms"].keys() == ARMS
    for places in results["arms"].values():
        assert places.keys() == {*archives, "all"}
        for metrics in places.values():
            for name in ("accuracy", "macro_f1", "auc"):
                assert 0 <= metrics[name]["low"] <= metrics[name]["high"] <= 1
                assert 0 <= metrics[name]["value"] <= 1
    assert not results["phantoms"]
    assert str(next(iter(archives.values()))) not in json.dumps(results["settings"])


def test_every_arm_took_the_same_steps_as_the_pooled_baseline(finished):
    work = json.loads((finished[0] / "results.json").read_text())["work"]
    alone = sum(facts["steps"] for name, facts in work.items() if name.startswith("local-"))
    assert {work[name]["steps"] for name in ("centralised", "fedavg", "fedprox")} == {alone}


def test_the_figures_are_those_of_the_predictions_and_the_sites_say_the_same(finished):
    out = finished[0]
    results = json.loads((out / "results.json").read_text())
    for arm in ARMS:
        with (out / "arms" / arm / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        right = [max(results["classes"], key=lambda c, r=row: float(r[c])) == row["label"] for row in rows]
        assert results["arms"][arm]["all"]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
    told = json.loads((out / "arms" / "fedavg" / "done.json").read_text())["test"]["sites"]
    for site, score in told.items():
        assert results["arms"]["fedavg"][site]["accuracy"]["value"] == pytest.approx(score["accuracy"], abs=1e-9)


def test_no_test_row_was_trained_on_and_no_group_stands_in_two_parts(finished):
    for path in (finished[0] / "splits").glob("*.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        parts: dict[str, set[str]] = {}
        for row in rows:
            parts.setdefault(row["group"], set()).add(row["part"])
        assert all(len(found) == 1 for found in parts.values())


def test_the_run_folder_is_complete_and_the_terminal_quiet(finished):
    out, said = finished
    for arm in ARMS:
        names = {path.name for path in (out / "arms" / arm).iterdir()}
        wanted = {"history.jsonl", "predictions.csv", "best.safetensors", "final.safetensors", "checkpoint.safetensors"}
        assert wanted <= names
    page = (out / "report.html").read_text()
    assert "fedprox" in page.lower()
    assert str(out / "report.html") in said.replace("\n", "")
    assert not re.search(r"INFO|WARNING|Traceback|ray::|flwr", said), said


def test_the_archives_and_the_cache_are_all_that_is_read_and_no_process_stays(finished):
    mine = [p for p in psutil.process_iter(["name", "cmdline"]) if "ray::" in " ".join(p.info["cmdline"] or [])]
    assert not mine


def test_a_finished_arm_is_not_run_again_and_a_new_one_can_join(finished, archives):
    out = finished[0]
    before = {arm: (out / "arms" / arm / "final.safetensors").stat().st_mtime_ns for arm in ARMS}
    done = run(command(archives, out, "--resume", arms="local,centralised,fedavg,fedprox,fedmedian"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {arm: (out / "arms" / arm / "final.safetensors").stat().st_mtime_ns for arm in ARMS}
    assert "fedmedian" in json.loads((out / "results.json").read_text())["arms"]


def test_other_settings_are_refused_and_named(finished, archives):
    done = run(command(archives, finished[0], "--resume", rounds=3))
    assert done.returncode == 1
    assert "rounds was 2 and is now 3" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_an_existing_run_is_never_overwritten(finished, archives):
    done = run(command(archives, finished[0]))
    assert done.returncode == 1
    assert "--resume" in done.stderr


def test_ctrl_c_stops_cleanly_and_resuming_gives_the_uncut_result(archives, tmp_path):
    settings = {"arms": "fedavg", "rounds": 6}
    uncut = run(command(archives, tmp_path / "uncut", **settings))
    assert uncut.returncode == 0, uncut.stdout + uncut.stderr
    words = command(archives, tmp_path / "cut", **settings)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    history = tmp_path / "cut" / "arms" / "fedavg" / "history.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (history.is_file() and len(history.read_text().splitlines()) >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    if (tmp_path / "cut" / "results.json").is_file():
        pytest.skip("the run was over before the interrupt came")
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    resumed = run(command(archives, tmp_path / "cut", "--resume", **settings))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    for which in ("best", "final"):
        left, right = (
            load_file(tmp_path / name / "arms" / "fedavg" / f"{which}.safetensors") for name in ("cut", "uncut")
        )
        assert all(torch.equal(left[key], right[key]) for key in right)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("imagesize=3", "did you mean 'image-size'"),
        ("weights=/nowhere.safetensors", "/nowhere.safetensors is not there"),
        ("model=resnetv2_51", "no model called 'resnetv2_51'"),
        ("sampler=rosy", "sampler"),
    ],
)
def test_a_bad_setting_is_explained_before_anything_is_trained(setting, said, archives, tmp_path):
    done = run([*command(archives, tmp_path / "out"), f"--set={setting}"])
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out" / "arms").exists()
