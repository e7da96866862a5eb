"""`fedbus study` from the command line: cells as Ray tasks, failed cells, resuming, paired differences."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.errors import FedbusError
from fedbus.evaluation.predictions import Predictions
from fedbus.reports.comparison.results import shown_settings
from fedbus.settings.schema import Settings
from simulations.studies.cell_process import is_finished
from tests.archives import make_bus_bra, make_busi

GRID = """
title = "Small study"
question = "Does it run?"
default = "plain"
references = "plain"
[settings]
arms = ["local", "centralised"]
image-size = 32
model = "test_resnet"
weights = "none"
batch-size = 8
rounds = 2
folds = 3
bootstrap = 50
learning-rate = 0.01
device = "cpu"
[cells.plain]
[cells.again]
weights-of = "plain"
arms = ["local", "centralised", "centralised-blended"]
[cells.federated]
arms = ["fedavg"]
batch-norm = "local"
[cells.federated-again]
weights-of = "federated"
[cells.broken]
arms = ["centralised"]
weights = "gone.pth"
"""

pytestmark = pytest.mark.timeout(1800)

MARK = uuid.uuid4().hex
"""In the environment of every process that these tests start."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small datasets and a grid."""
    root = tmp_path_factory.mktemp("study")
    make_busi(root / "busi", {"benign": 15, "malignant": 12, "normal": 12}, seed=1)
    make_bus_bra(root / "bus-bra", {"benign": 16, "malignant": 14}, seed=3)
    (root / "small.toml").write_text(GRID)
    return root


def command(place: Path, out: Path, *more: str) -> list[str]:
    sites = [f"--site={name}={place / name}" for name in ("busi", "bus-bra")]
    cache = f"--set=cache={place / 'cache'}"
    return [sys.executable, "-m", "fedbus", "study", str(place / "small.toml"), *sites, cache, f"--out={out}", *more]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "FEDBUS_TEST": MARK}
    return subprocess.run(words, capture_output=True, text=True, timeout=1500, env=environment, check=False)


def refused(words: list[str]) -> str:
    """Return the error of a command that must refuse, run in this process: starting one takes seconds."""
    done = CliRunner().invoke(app, words[3:])
    assert isinstance(done.exception, FedbusError)
    return str(done.exception)


@pytest.fixture(scope="module")
def first(place: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = place / "out"
    return out, run(command(place, out))


def content_of(out: Path) -> dict:
    return json.loads((out / "study.json").read_text())


def predictions(out: Path, cell: str, arm: str) -> Predictions:
    return Predictions.from_csv(out / "cells" / cell / "arms" / arm / "predictions.csv")


def accuracy(found: Predictions) -> float:
    return float((found.probabilities.argmax(axis=1) == found.labels).mean())


def auc(found: Predictions, classes: list[int]) -> float:
    return float(np.mean([roc_auc_score(found.labels == c, found.probabilities[:, c]) for c in classes]))


def test_a_cell_that_fails_is_reported_with_its_reason_and_the_others_finish(first):
    out, done = first
    cells = content_of(out)["cells"]
    assert {name: cell["state"] for name, cell in cells.items()} == {
        "plain": "finished", "again": "finished", "broken": "failed",
        "federated": "finished", "federated-again": "finished",
    }  # fmt: skip
    assert "gone.pth does not exist" in cells["broken"]["reason"]
    assert done.returncode == 1
    assert "gone.pth" in done.stdout
    assert "--resume" in done.stdout


def test_figures_and_paired_differences_are_those_of_the_predictions(first):
    out, _ = first
    cells = content_of(out)["cells"]
    for arm in ("centralised", "local-busi"):
        shown = cells["plain"]["arms"][arm]["all"]["accuracy"]["value"]
        assert shown == pytest.approx(accuracy(predictions(out, "plain", arm)))
    federated, pooled = predictions(out, "federated", "fedavg"), predictions(out, "plain", "centralised")
    gap = cells["federated"]["gap"]["fedavg"]["centralised"]["all"]["accuracy"]
    assert gap["value"] == pytest.approx(accuracy(federated) - accuracy(pooled))
    own = cells["federated"]["gap"]["fedavg"]["local-busi"]["busi"]["accuracy"]["value"]
    alone = predictions(out, "plain", "local-busi").select("busi")
    assert own == pytest.approx(accuracy(federated.select("busi")) - accuracy(alone))


def test_a_cell_may_score_another_cells_weights(first):
    out, _ = first
    for scored, trained, arm in (
        ("again", "plain", "centralised"), ("again", "plain", "local-bus-bra"),
        ("federated-again", "federated", "fedavg"),  # with the BatchNorm that each site kept to itself
    ):  # fmt: skip
        ours, theirs = predictions(out, scored, arm), predictions(out, trained, arm)
        assert np.array_equal(ours.probabilities, theirs.probabilities)
    differences = content_of(out)["cells"]["again"]["differences"]["centralised"]["all"]["auc"]
    assert (differences["value"], differences["low"], differences["high"]) == (0, 0, 0)


def test_a_blended_arm_needs_no_training_and_is_scored_with_each_sites_own_model(first):
    out, _ = first
    blended, shared = (predictions(out, "again", arm) for arm in ("centralised-blended", "centralised"))
    for site in ("busi", "bus-bra"):
        own = predictions(out, "again", f"local-{site}").select(site).probabilities
        logs = np.log(np.clip(own, 1e-12, 1)) + np.log(np.clip(shared.select(site).probabilities, 1e-12, 1))
        expected = np.exp(logs / 2) / np.exp(logs / 2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(blended.select(site).probabilities, expected, rtol=1e-9)
    assert not (out / "cells" / "again" / "arms" / "centralised-blended" / "best.safetensors").exists()


def test_the_study_file_has_the_primary_figure_and_claims_and_nothing_private(first, place):
    out, _ = first
    content = content_of(out)
    federated = content["cells"]["federated"]
    places = federated["arms"]["fedavg"]
    own = [places[site]["auc"]["value"] for site in ("busi", "bus-bra")]
    assert places["mean"]["auc"]["value"] == pytest.approx(sum(own) / 2)
    assert federated["gap"]["fedavg"]["centralised"].keys() == {"mean", "all", "busi", "bus-bra"}
    claims = federated["claims"]["fedavg"]
    assert claims["not_worse"]["centralised"]["low"] == federated["gap"]["fedavg"]["centralised"]["mean"]["auc"]["low"]
    assert claims["sites"].keys() == {"mean", "busi", "bus-bra"}
    assert content["site_known"]["mean"]["auc"]["value"] == 0.5
    assert content["tested_folds"] == [0]
    text = (out / "study.json").read_text()
    names = {path.name for path in place.glob("bus*/**/*.png")}
    assert names
    assert not [word for word in (str(place), *names) if word in text]


def test_table_and_page_are_written_and_the_terminal_shows_both(first):
    out, done = first
    page = (out / "report.html").read_text()
    assert "Small study" in page
    assert "Does it run?" in page
    assert "federated" in done.stdout
    assert str(out / "report.html") in done.stdout


@pytest.mark.extended
def test_resuming_runs_only_what_is_not_finished(first, place):
    out, _ = first
    files = {name: out / "cells" / name / "results.json" for name in ("plain", "again", "federated")}
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    old = place / "small.toml"
    old.write_text(GRID.replace('weights = "gone.pth"', "learning-rate = 0.02"))
    try:
        done = run(command(place, out, "--resume"))
    finally:
        old.write_text(GRID)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content_of(out)["cells"]["broken"]["state"] == "finished"
    assert before == {name: path.stat().st_mtime_ns for name, path in files.items()}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "already contains a study"),
        (["--resume", "--set=rounds=3"], "rounds was 2 and is now 3"),
    ],
)
def test_a_folder_of_another_study_is_left_alone(first, place, more, words):
    out, _ = first
    before = (out / "study.json").read_bytes()
    assert words in refused(command(place, out, *more))
    assert (out / "study.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"schema": 0, "fedbus": "0.0.1", "cells": {}}, "another version of FedBUS (0.0.1)"),
        ({"image-size": 32, "arms": ["local"]}, "is not of a study"),
        ({"schema": 1, "study": "sampling", "cells": {}}, "contains the study 'sampling', not 'small'"),
    ],
)
def test_a_folder_of_another_version_or_kind_is_refused(place, tmp_path, content, words):
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert words in refused(command(place, tmp_path, "--resume"))


def test_a_cell_is_finished_when_all_its_arms_are(tmp_path):
    alone, both = (Settings(arms=arms) for arms in (("local",), ("local", "fedavg")))
    assert not is_finished(tmp_path, alone)
    (tmp_path / "results.json").write_text(json.dumps({"settings": shown_settings(alone)}))
    assert is_finished(tmp_path, alone)
    assert not is_finished(tmp_path, both)


def test_folds_of_a_leaky_split_overlap_and_are_not_pooled(place):
    grid = place / "leaky.toml"
    grid.write_text(GRID.replace('model = "test_resnet"', 'model = "test_resnet"\nsplit = "images"'))
    words = command(place, place / "overlapping", "--all-folds")
    words[words.index(str(place / "small.toml"))] = str(grid)
    assert "split = images, whose folds overlap" in refused(words)
    assert not (place / "overlapping").exists()


def test_folds_that_do_not_exist_are_refused(place):
    assert "--folds: 3 is out of range; the folds are 0 to 2" in refused(command(place, place / "none", "--folds=1,3"))
    assert not (place / "none").exists()


@pytest.mark.extended
def test_with_all_folds_every_image_is_tested_once(place):
    grid, out = place / "folds.toml", place / "folds"
    head, _, _ = GRID.partition("[cells.plain]")
    few = head.replace('arms = ["local", "centralised"]', 'arms = ["centralised"]').replace("rounds = 2", "rounds = 1")
    grid.write_text(few.replace('references = "plain"\n', "") + "[cells.plain]\n")
    words = command(place, out, "--all-folds")
    words[words.index(str(place / "small.toml"))] = str(grid)
    done = run(words)
    assert done.returncode == 0, done.stdout + done.stderr
    cell = content_of(out)["cells"]["plain"]
    folds = [out / "cells" / "plain" / f"fold-{fold}" / "arms" / "centralised" / "predictions.csv" for fold in range(3)]
    tested = [path for file in folds for path in Predictions.from_csv(file).paths.tolist()]
    assert len(tested) == len(set(tested)) == 15 + 12 + 12 + 16 + 14
    assert cell["arms"]["centralised"]["all"]["images"] == len(tested)
    assert content_of(out)["tested_folds"] == [0, 1, 2]
    by_fold = [auc(Predictions.from_csv(file), [0, 1, 2]) for file in folds]
    assert cell["arms"]["centralised"]["all"]["auc"]["value"] == pytest.approx(sum(by_fold) / 3)


def ours() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FEDBUS_TEST") == MARK and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


@pytest.mark.extended
def test_ctrl_c_ends_every_process_and_keeps_finished_rounds(place):
    out = place / "stopped"
    words = command(place, out, "--set=rounds=500")
    environment = os.environ | {"NO_COLOR": "1", "FEDBUS_TEST": MARK}
    study = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    history = out / "cells" / "plain" / "arms" / "local-busi" / "history.jsonl"
    deadline = time.monotonic() + 600
    while not history.is_file() and study.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    study.send_signal(signal.SIGINT)
    said, _ = study.communicate(timeout=300)
    assert study.returncode == 130, said
    assert "--resume" in said
    assert history.read_text().startswith('{"round": 1')
    deadline = time.monotonic() + 120
    while ours() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ours() == []


def test_notes_on_the_data_are_printed_once_and_counted(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = first
    sites = json.loads((out / "cells" / "plain" / "sites.json").read_text(encoding="utf-8"))
    printed = "".join(done.stdout.split())
    assert {name: facts["noted"] for name, facts in content_of(out)["sites"].items()} == {
        name: len(facts["notes"]) for name, facts in sites.items()
    }
    for name, facts in sites.items():
        for note in facts["notes"]:
            assert printed.count("".join(f"{name}: {note}".split())) == 1
