"""What the page knows of a run, from the files that the run writes."""

import json
import os

import pytest

from fedbus.runs.lock import RUNNING
from fedbus.settings.arms import tuning_rounds
from fedbus.system.files import write_json
from fedbus.system.locks import hold
from fedbus.watch.run_files import RunFiles
from fedbus.watch.snapshot import RunReader
from tests.watched_run import add_rounds, finish_arm, history_line, start_watched_run

ROUNDS = [history_line(number) for number in (1, 2, 3, 4)]


@pytest.fixture
def running(tmp_path):
    """A run folder whose run is going on."""
    settings = start_watched_run(tmp_path)
    with hold(tmp_path / RUNNING, "taken", "wait"):
        yield tmp_path, settings


def progress(out):
    return {(each.arm, each.seed): (each.done, each.total) for each in RunReader(out).read().trainings}


def test_a_folder_that_does_not_exist_yet_is_a_run_that_has_not_started(tmp_path):
    assert RunReader(tmp_path / "later").read().state == "not started"


def test_a_run_goes_from_preparing_over_training_and_scoring_to_finished(tmp_path):
    reader, states = RunReader(tmp_path), list[str]()
    settings = start_watched_run(tmp_path)
    with hold(tmp_path / RUNNING, "taken", "wait"):
        states.append(reader.read().state)
        add_rounds(tmp_path, settings, "local-north", ROUNDS[:1])
        states.append(reader.read().state)
        for arm in ("local-north", "local-south", "centralised", "fedavg"):
            add_rounds(tmp_path, settings, arm, ROUNDS)
        states.append(reader.read().state)
        (tmp_path / "report.html").write_text("report")
    states.append(reader.read().state)
    assert states == ["preparing", "training", "scoring", "finished"]


def test_a_run_that_was_killed_is_interrupted_and_says_what_to_do(running):
    out, settings = running
    add_rounds(out, settings, "local-north", ROUNDS[:2])
    assert RunReader(out).read().state == "training"
    (out / RUNNING).unlink()  # as if its process had ended
    found = RunReader(out).read()
    assert found.state == "interrupted"
    assert "--resume" in found.remedy


def test_every_arm_and_seed_is_counted(tmp_path):
    arms = ("local", "fedavg", "fedavg-tuned", "fedavg-blended")
    settings = start_watched_run(tmp_path, arms=arms, seeds=(0, 7))
    add_rounds(tmp_path, settings, "fedavg", ROUNDS[:2], seed=7)
    add_rounds(tmp_path, settings, "fedavg-tuned", ROUNDS[:1], seed=0, site="south")
    tuned = 2 * tuning_rounds(settings.rounds)
    for seed in (0, 7):
        for arm, total in (("local-north", 4), ("local-south", 4), ("fedavg", 4), ("fedavg-tuned", tuned)):
            done = {("fedavg", 7): 2, ("fedavg-tuned", 0): 1}.get((arm, seed), 0)
            assert progress(tmp_path)[arm, seed] == (done, total)
        assert progress(tmp_path)["fedavg-blended", seed] == (0, 0)


def test_phantoms_are_marked_and_named_once_they_are_prepared(tmp_path):
    settings = start_watched_run(tmp_path, sites={}, arms=("local", "fedavg"))
    assert RunReader(tmp_path).read().phantoms
    assert list(progress(tmp_path)) == [("local", 0), ("fedavg", 0)]
    write_json(tmp_path / "sites.json", {"phantom-a": {}, "phantom-b": {}})
    add_rounds(tmp_path, settings, "local-phantom-b", ROUNDS[:1])
    assert progress(tmp_path)["local-phantom-b", 0] == (1, 4)
    start_watched_run(tmp_path)
    assert not RunReader(tmp_path).read().phantoms


def test_a_file_that_is_cut_off_keeps_its_last_content_and_is_named(running):
    out, settings = running
    add_rounds(out, settings, "fedavg", ROUNDS[:2])
    reader, path = RunReader(out), out / "arms/fedavg/history.jsonl"
    assert reader.read().trainings[-1].done == 2
    path.write_text(path.read_text() + '{"round": 3, "tra')
    found = reader.read()
    assert (found.trainings[-1].done, found.damaged) == (2, ("arms/fedavg/history.jsonl",))
    path.write_bytes(b"\xff\xfe")
    assert reader.read().trainings[-1].done == 2
    add_rounds(out, settings, "fedavg", ROUNDS[:3])
    found = reader.read()
    assert (found.trainings[-1].done, found.damaged) == (3, ())


def test_an_arm_that_was_deleted_starts_again(running):
    out, settings = running
    add_rounds(out, settings, "fedavg", ROUNDS)
    reader = RunReader(out)
    assert reader.read().trainings[-1].finished
    for path in (out / "arms/fedavg").iterdir():
        path.unlink()
    found = reader.read().trainings[-1]
    assert (found.done, found.finished) == (0, False)


def test_a_file_replaced_within_one_tick_of_the_clock_is_read_again(tmp_path):
    files, path = RunFiles(), tmp_path / "done.json"
    write_json(path, {"best_round": 1})
    before = path.stat()
    assert files.read(path, json.loads) == {"best_round": 1}
    write_json(path, {"best_round": 2})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.read(path, json.loads) == {"best_round": 2}


def test_damaged_settings_are_an_error_with_a_remedy_on_the_page(tmp_path):
    (tmp_path / "settings.json").write_text('{"rounds": "many"}')
    found = RunReader(tmp_path).read()
    assert found.state == "failed"
    assert "rounds" in found.words
    assert found.remedy


def test_reading_opens_nothing_but_small_text_files(running):
    """Models, splits, predictions and images stay closed: they are not even readable here."""
    out, settings = running
    add_rounds(out, settings, "fedavg", ROUNDS[:2])
    finish_arm(out, settings, "fedavg")
    for name in ("arms/fedavg/best.safetensors", "arms/fedavg/predictions.csv", "splits/north.csv"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).mkdir()  # reading it would be an error
    assert RunReader(out).read().trainings[-1].finished
