"""`fedbus card`: files, summary, and errors that name the file and the remedy."""

import copy
import hashlib
import json
import re
import shutil
from importlib import metadata
from random import Random

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedbus.cards.card import CHECKLISTS, write_card
from fedbus.cards.claim import CLAIM
from fedbus.cards.run import read_run
from fedbus.cards.tripod_ai import TRIPOD_AI
from fedbus.cli import app
from fedbus.errors import RunError
from fedbus.external import dataset as outside
from fedbus.external.evaluate import evaluate
from fedbus.reports import wording
from fedbus.settings.load import build_settings
from fedbus.system.files import write_json
from fedbus.text import NOT_A_DEVICE
from tests.archives import make_class_folders
from tests.finished_run import PRIVATE, run_settings, write_run

PAGES = ("claim.md", "model_card.md", "tripod_ai.md")


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path / "run", elsewhere=True)
    return tmp_path / "run"


def test_the_command_writes_all_pages_and_counts_the_items(run):
    result = CliRunner().invoke(app, ["card", str(run)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (run / "card").iterdir()) == sorted(PAGES)
    for checklist in CHECKLISTS:
        (line,) = [line for line in result.output.splitlines() if re.match(rf"{re.escape(checklist.title)} +\d", line)]
        counts = [int(word) for word in line.removeprefix(checklist.title).split()]
        answers = [answer.status for answer in checklist.answers(read_run(run)).values()]
        assert counts == [answers.count(status) for status in ("filled", "for you to fill", "not done")]
        assert sum(counts) == len(checklist.items)
    assert str(run / "card" / "claim.md") in result.output.replace("\n", "")
    assert "Next: " in result.output


@pytest.mark.parametrize("kind", ["comparison", "hub"])
def test_no_path_no_patient_and_no_image_is_in_any_page(kind, run, shared_hub_run, tmp_path):
    folder = run if kind == "comparison" else shared_hub_run
    write_card(folder, tmp_path / "card", Console(quiet=True))
    for name in PAGES:
        text = (tmp_path / "card" / name).read_text()
        assert NOT_A_DEVICE in text
        for private in (PRIVATE, str(tmp_path), "/archives", "ward/", "patient-", "scan (1)"):
            assert private not in text, (name, private)
        assert set(re.findall(r"[\w/() -]+\.(?:png|jpg|dcm)", text)) <= {"headline.png"}


def test_a_second_card_replaces_the_first_and_keeps_what_was_filled_in(run):
    write_card(run, None, Console(quiet=True))
    first = {path.name: path.read_text() for path in (run / "card").iterdir()}
    (run / "card" / "claim.md").write_text("old")
    write_card(run, None, Console(quiet=True))
    found = {path.name: path.read_text() for path in (run / "card").iterdir()}
    assert found == first | {"claim.md.before": "old"}


def refused(folder, *named):
    """The error of a folder without a card; nothing has been written."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(RunError) as error:
        write_card(folder, folder / "card", Console(quiet=True))
    assert sorted(folder.rglob("*")) == before
    for text in (str(folder), *named):
        assert text in error.value.problem
    assert error.value.remedy
    return error.value


def test_a_folder_without_a_run_is_refused(tmp_path):
    refused(tmp_path, "contains no run")


def test_a_study_names_its_runs(tmp_path):
    for fold in range(2):
        write_run(tmp_path / "cells" / "both" / f"fold-{fold}")
    for folder in (tmp_path, tmp_path / "cells" / "both"):
        assert str(tmp_path / "cells" / "both" / "fold-1") in refused(folder).remedy
    write_card(tmp_path / "cells" / "both" / "fold-1", None, Console(quiet=True))


def test_an_unfinished_run_names_the_arms_that_are_left(run):
    (run / "results.json").unlink()
    assert "--resume" in refused(run, "is trained, but not scored").remedy
    (run / "arms" / "local-BUSI" / "done.json").unlink()
    (run / "arms" / "fedprox" / "done.json").unlink()
    refused(run, "still has to train fedprox, local-BUSI")


def test_a_run_resumed_with_more_arms_is_unfinished(run):
    write_json(
        run / "settings.json", run_settings(arms=["local", "centralised", "fedavg", "fedprox", "krum"]).as_dict()
    )
    refused(run, "still has to train krum")


def test_a_hub_has_neither_local_nor_centralised_arms(hub_run):
    found = json.loads((hub_run / "settings.json").read_text())
    write_json(hub_run / "settings.json", found | {"arms": ["local", *found["arms"]]})
    read_run(hub_run)
    (hub_run / "results.json").unlink()
    refused(hub_run, "is trained, but not scored")


def test_damaged_results_are_refused_by_name(run):
    file = run / "results.json"
    whole = json.loads(file.read_text())
    file.write_text(file.read_text()[:500])
    refused(run, "results.json")
    write_json(file, {key: value for key, value in whole.items() if key != "versions"} | {"arms": 3})
    assert "--resume" in refused(run, "results.json", "arms, versions").remedy
    write_json(file, whole)
    evaluation = run / "evaluations" / "elsewhere" / "evaluation.json"
    content = json.loads(evaluation.read_text())
    for wrong in ({"models": {"fedavg": 3}}, {"sites": {}}, {"arms": {}}):
        write_json(evaluation, content | wrong)
        refused(run, "evaluation.json")
    write_json(evaluation, content)
    write_json(run / "explained" / "focus.json", {"arms": {}})
    refused(run, "focus.json")
    (run / "settings.json").write_text("{")
    refused(run, "settings.json")


def test_results_of_a_newer_version_are_refused(run):
    file = run / "results.json"
    newer = re.sub(r"^\d+", lambda number: str(int(number[0]) + 1), metadata.version("fedbus"))
    write_json(file, json.loads(file.read_text()) | {"fedbus": newer})
    assert newer in refused(run, newer, "newer").remedy


def test_an_out_that_is_a_file_is_refused_and_kept(run, tmp_path):
    (tmp_path / "card").write_text("mine")
    with pytest.raises(RunError, match="card"):
        write_card(run, tmp_path / "card", Console(quiet=True))
    assert (tmp_path / "card").read_text() == "mine"


def keys_of(value, path=()):
    if isinstance(value, dict):
        for key in value:
            yield (*path, key)
            yield from keys_of(value[key], (*path, key))


def test_whatever_is_wrong_in_the_results_is_no_crash(run):
    whole, random = json.loads((run / "results.json").read_text()), Random(15)
    keys = list(keys_of(whole))
    shallow = [key for key in keys if len(key) == 1]  # what is deeper is mostly figures
    for *parents, last in (*shallow, *random.sample(keys, 20)):
        broken = copy.deepcopy(whole)
        inner = broken
        for key in parents:
            inner = inner[key]
        inner[last] = random.choice([None, 3, "text", [], {}, [1], {"a": None}])
        write_json(run / "results.json", broken)
        try:
            write_card(run, None, Console(quiet=True))
        except RunError as error:
            found = error.problem
        else:
            found = str(run)
        assert str(run) in found, (parents, last)


def test_a_run_that_was_really_trained_has_a_card(trained_run, tmp_path):
    write_card(trained_run, tmp_path, Console(quiet=True))
    found = read_run(trained_run)
    page = (tmp_path / "model_card.md").read_text()
    for arm, folders in found.folders.items():
        weights = folders[0].path / "best.safetensors"
        if weights.is_file() and "tuned" not in arm:
            assert f"{arm}, best.safetensors | {hashlib.sha256(weights.read_bytes()).hexdigest()}" in page
    for checklist in CHECKLISTS:
        for number, answer in checklist.answers(found).items():
            raw = next(item.answer for item in checklist.items if item.number == number)
            pointers = raw(found).evidence if callable(raw) else raw.evidence
            assert answer.evidence == pointers, number  # a fresh run has all of its evidence


def test_an_evaluation_in_the_run_folder_is_part_of_the_card(trained_run, tmp_path, monkeypatch):
    def settings_with_cache(values, where):
        return build_settings(values | {"cache": str(tmp_path / "cache")}, where)

    monkeypatch.setattr(outside, "build_settings", settings_with_cache)
    run, new = shutil.copytree(trained_run, tmp_path / "run"), tmp_path / "new"
    make_class_folders(new, {"benign": 16, "malignant": 12, "normal": 8}, seed=5)
    evaluate([run / "arms" / "fedavg"], f"new=class-folders:{new}", None, Console(quiet=True))
    (file,) = run.glob("evaluations/*/evaluation.json")
    auc = json.loads(file.read_text())["arms"]["fedavg"]["all"]["auc"]
    write_card(run, None, Console(quiet=True))
    found = f"new, 36 images in 36 groups: AUC FedAvg {wording.with_interval(auc)}."
    assert found in (run / "card" / "model_card.md").read_text()
    answers = CLAIM.answers(read_run(run))
    assert (answers["33"].status, answers["33"].text) == ("filled", found)
    assert answers["33"].evidence == (file.relative_to(run).as_posix(),)
    assert TRIPOD_AI.answers(read_run(run))["12f"].status == "filled"  # BatchNorm adapted to the new images
