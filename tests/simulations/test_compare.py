"""`fedbus compare` from the command line, on small datasets, with the real Flower and Ray."""

import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fedbus.classes import CLASSES
from fedbus.cli import app
from fedbus.errors import FedbusError
from fedbus.models.build import build_model
from tests.archives import make_bus_bra, make_bus_uclm, make_busi

pytestmark = pytest.mark.timeout(1800)

SETTINGS = {
    "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 8, "rounds": 2, "folds": 3,
    "bootstrap": 50, "learning-rate": 0.01, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("datasets")
    return {
        "busi": make_busi(root / "busi", {"benign": 15, "malignant": 12, "normal": 12}, seed=1),
        "bus-uclm": make_bus_uclm(root / "bus-uclm", {"benign": 30, "malignant": 30, "normal": 40}, seed=2),
        "bus-bra": make_bus_bra(root / "bus-bra", {"benign": 16, "malignant": 14}, seed=3),
    }


MARK = uuid.uuid4().hex
"""In the environment of every process that these tests start."""


def command(datasets: dict[str, Path], out: Path, *more: str, **settings: object) -> list[str]:
    sites = [f"--site={name}={path}" for name, path in datasets.items()]
    values = SETTINGS | {"cache": out.parent / "cache"} | {k.replace("_", "-"): v for k, v in settings.items()}
    sets = [f"--set={key}={value}" for key, value in values.items()]
    return [sys.executable, "-m", "fedbus", "compare", *sites, "--out", str(out), *sets, *more]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "FEDBUS_TEST": MARK}
    return subprocess.run(words, capture_output=True, text=True, timeout=1500, env=environment, check=False)


def refused(words: list[str]) -> str:
    """Return the error of a command that must refuse, run in this process: starting one takes seconds."""
    done = CliRunner().invoke(app, words[3:])
    assert isinstance(done.exception, FedbusError), done.output
    return str(done.exception)


@pytest.fixture(scope="module")
def finished(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs") / "first"
    done = run(command(datasets, out))
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout + done.stderr


def guess(row: dict[str, str]) -> str:
    return max(CLASSES, key=lambda name: float(row[name]))


TRAINED = {"local-busi", "local-bus-uclm", "local-bus-bra", "centralised", "fedavg", "fedprox"}
ARMS = TRAINED | {"centralised-blended", "fedavg-blended"}


def test_results_contain_every_arm_at_every_site_with_intervals(finished, datasets):
    results = json.loads((finished[0] / "results.json").read_text())
    assert results["arms"].keys() == {*ARMS, "local"}
    for site in datasets:
        assert results["arms"]["local"][site] == results["arms"][f"local-{site}"][site]
    for places in results["arms"].values():
        assert places.keys() == {*datasets, "all", "mean"}
        own = [places[site]["auc"]["value"] for site in datasets]
        assert places["mean"]["auc"]["value"] == pytest.approx(sum(own) / len(own))
        for metrics in places.values():
            for name in ("accuracy", "macro_f1", "auc"):
                assert 0 <= metrics[name]["low"] <= metrics[name]["high"] <= 1
                assert 0 <= metrics[name]["value"] <= 1
    assert results["claims"].keys() == {"fedavg", "fedprox", "fedavg-blended"}
    for claims in results["claims"].values():
        assert claims["not_worse"].keys() == {"centralised", "centralised-blended"}
        assert claims["sites"].keys() == {*datasets, "mean"}
    assert results["site_known"]["all"]["auc"]["value"] > results["site_known"]["mean"]["auc"]["value"] == 0.5
    assert not results["phantoms"]
    for name in ("results.json", "report.html"):
        text = (finished[0] / name).read_text()
        assert not any(str(path) in text for path in datasets.values()), name


def test_federated_and_centralised_arms_took_the_same_steps(finished):
    work = json.loads((finished[0] / "results.json").read_text())["work"]
    assert len({work[name]["steps"] for name in ("centralised", "fedavg", "fedprox")}) == 1
    alone = sum(facts["steps"] for name, facts in work.items() if name.startswith("local-"))
    assert work["fedavg-blended"]["steps"] == work["fedavg"]["steps"] + alone


def test_the_metrics_match_the_predictions_and_the_sites_reports(finished):
    out = finished[0]
    results = json.loads((out / "results.json").read_text())
    for arm in TRAINED:
        with (out / "arms" / arm / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        right = [guess(row) == row["label"] for row in rows]
        assert results["arms"][arm]["all"]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
    reported = json.loads((out / "arms" / "fedavg" / "done.json").read_text())["test"]["sites"]
    for site, score in reported.items():
        assert results["arms"]["fedavg"][site]["accuracy"]["value"] == pytest.approx(score["accuracy"], abs=1e-9)


def test_each_group_is_in_one_split(finished):
    for path in (finished[0] / "splits").glob("*.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        parts: dict[str, set[str]] = {}
        for row in rows:
            parts.setdefault(row["group"], set()).add(row["split"])
        assert all(len(found) == 1 for found in parts.values())


def test_the_run_folder_is_complete_and_the_terminal_quiet(finished):
    out, said = finished
    for arm in TRAINED:
        names = {path.name for path in (out / "arms" / arm).iterdir()}
        wanted = {"history.jsonl", "predictions.csv", "best.safetensors", "final.safetensors", "checkpoint.safetensors"}
        assert wanted <= names
    assert json.loads((out / "settings.json").read_text())["precision"] in ("float32", "bfloat16"), "not auto"
    page = (out / "report.html").read_text()
    assert "fedprox" in page.lower()
    assert str(out / "report.html") in said.replace("\n", "")
    assert not re.search(r"INFO|WARNING|Traceback|ray::|flwr", said), said


def test_no_process_is_left_running(finished):
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FEDBUS_TEST") == MARK:
                left.append(process.cmdline())
        except psutil.Error:  # gone already, or another user's
            continue
    assert not left


@pytest.mark.extended
def test_a_finished_arm_is_not_run_again_and_a_new_one_can_join(finished, datasets):
    out = finished[0]
    before = {arm: (out / "arms" / arm / "final.safetensors").stat().st_mtime_ns for arm in TRAINED}
    done = run(command(datasets, out, "--resume", arms="local,centralised,fedavg,fedprox,fedmedian"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {arm: (out / "arms" / arm / "final.safetensors").stat().st_mtime_ns for arm in TRAINED}
    assert "fedmedian" in json.loads((out / "results.json").read_text())["arms"]


def test_other_settings_are_refused_and_named(finished, datasets):
    assert "rounds was 2 and is now 3" in refused(command(datasets, finished[0], "--resume", rounds=3))


def test_several_seeds_give_a_mean_and_a_spread(datasets, tmp_path):
    done = run(command(datasets, tmp_path / "seeds", arms="centralised", seeds="0,1"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "seeds" / "results.json").read_text())
    accuracy = results["arms"]["centralised"]["all"]["accuracy"]
    found = []
    for seed in (0, 1):
        with (tmp_path / "seeds" / "arms" / "centralised" / f"seed-{seed}" / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        found.append(sum(guess(row) == row["label"] for row in rows) / len(rows))
    assert accuracy["value"] == pytest.approx(sum(found) / 2)
    assert accuracy["spread"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)


def test_weights_that_do_not_fit_leave_no_run_behind(datasets, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, wrong)
    assert "missing: " in refused(command(datasets, tmp_path / "out", weights=wrong))
    assert not (tmp_path / "out").exists()


def test_replaced_start_weights_are_refused_on_resume(datasets, tmp_path):
    weights, settings = tmp_path / "start.pth", {"arms": "local", "rounds": 1}
    torch.save(build_model("test_resnet").state_dict(), weights)
    done = CliRunner().invoke(app, command(datasets, tmp_path / "out", weights=weights, **settings)[3:])
    assert done.exit_code == 0, done.output
    torch.save(build_model("test_resnet").state_dict(), weights)
    words = command(datasets, tmp_path / "out", "--resume", weights=weights, **settings)
    assert "start weights differ" in refused(words)


def test_a_missing_dataset_leaves_no_run_behind(datasets, tmp_path):
    assert "nowhere" in refused(command(datasets | {"class-folders": tmp_path / "nowhere"}, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_existing_run_is_never_overwritten(finished, datasets):
    assert "--resume" in refused(command(datasets, finished[0]))


@pytest.mark.extended
def test_ctrl_c_stops_cleanly_and_resuming_gives_the_uninterrupted_result(datasets, tmp_path):
    settings = {"arms": "fedavg", "rounds": 20}
    uncut = run(command(datasets, tmp_path / "uncut", **settings))
    assert uncut.returncode == 0, uncut.stdout + uncut.stderr
    words = command(datasets, tmp_path / "cut", **settings)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    history = tmp_path / "cut" / "arms" / "fedavg" / "history.jsonl"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and not (history.is_file() and len(history.read_text().splitlines()) >= 2):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    resumed = run(command(datasets, tmp_path / "cut", "--resume", **settings))
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
        ("weights=/nowhere.safetensors", "/nowhere.safetensors does not exist"),
        ("model=resnetv2_51", "no model called 'resnetv2_51'"),
        ("sampler=rosy", "sampler"),
        ("arms=bulyan", "bulyan protects against 1 hostile site(s) with 7 updates"),
    ],
)
def test_a_bad_setting_is_explained_before_anything_is_trained(setting, said, datasets, tmp_path):
    assert said in refused([*command(datasets, tmp_path / "out"), f"--set={setting}"])
    assert not (tmp_path / "out" / "arms").exists()


def test_notes_on_the_data_are_printed_before_training_and_in_the_report(finished: tuple[Path, str]) -> None:
    out, printed = finished
    notes = [
        f"{name}: {note}"
        for name, site in json.loads((out / "sites.json").read_text(encoding="utf-8")).items()
        for note in site["notes"]
    ]
    before = "".join(printed.partition("scoring the test rows")[0].split())
    report = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    careful = report.partition("Read with care")[2]
    assert any("no patient is known" in note for note in notes)
    assert any("few test images of a class" in note for note in notes)
    for note in notes:
        assert "".join(note.split()) in before
        assert f"{note}." in careful
