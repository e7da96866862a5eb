"""The setting `track` in a whole comparison: every arm, without duplicates, and without anything private."""

import io
import json
import math

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import simulations.compare
from fedbus.runs.checkpoint import ArmFolder
from fedbus.system.files import read_json, write_json
from fedbus.training.optimiser import learning_rate
from simulations import local_training
from simulations.compare import compare
from tests.mlflow_server import mlflow_server

ARMS = ("local-north", "local-south", "centralised", "fedavg")
TUNED = ("fedavg-tuned-north", "fedavg-tuned-south")


def run(settings, out, *, resume=False, **changes):
    """Run a comparison without its report, which takes most of the time, and return what it prints."""
    said = io.StringIO()
    settings = settings.model_copy(update=changes)

    def write_results_only(results, histories, samples, folder, examples):
        write_json(folder / "results.json", results)
        return folder / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulations.compare, "write_results", write_results_only)
        compare(settings, out, resume=resume, console=Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(scope="module")
def tracked(two_site_settings, tmp_path_factory):
    """A comparison tracked by TensorBoard that was interrupted in its second arm, and resumed."""
    changes = {
        "arms": ("local", "centralised", "fedavg", "fedavg-tuned"),
        "engine": "in-process",
        "precision": "float32",
    }
    settings = two_site_settings.model_copy(update={**changes, "track": "tensorboard"})
    out, train_round, calls = tmp_path_factory.mktemp("tracked") / "mueller-hans-1948", local_training.train_round, []

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == settings.rounds + 2:
            raise KeyboardInterrupt
        return train_round(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_training, "train_round", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(settings, out)
    run(settings, out, resume=True)
    return settings, out


def history(out, training):
    arm, _, site = training.partition("-tuned-")
    return ArmFolder(out / "arms" / (f"{arm}-tuned/{site}" if site else arm)).read_history()


def expected(lines):
    """The figures of the lines of a history that people look at, by tag."""
    found = {
        "train/loss": [(line["round"], line["train_loss"]) for line in lines],
        "train/seconds": [(line["round"], line["seconds"]) for line in lines],
    }
    for key in ("loss", "accuracy", "macro_f1"):
        found[f"validation/{key}"] = [(line["round"], line["validation"][key]) for line in lines]
        for site in lines[0]["sites"]:
            found[f"sites/{site}/validation_{key}"] = [(line["round"], line["sites"][site][key]) for line in lines]
    return found


def assert_same(found, wanted):
    assert [step for step, _ in found] == [step for step, _ in wanted], "in order, each once"
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        assert math.isclose(one, other, rel_tol=1e-6)


@pytest.mark.parametrize("training", [*ARMS, *TUNED])
def test_tensorboard_has_every_round_once_although_the_run_was_resumed(tracked, training):
    settings, out = tracked
    read = EventAccumulator(str(out / "tensorboard" / training), purge_orphaned_data=False).Reload()
    lines = history(out, training)
    assert len(lines) == (1 if training in TUNED else settings.rounds)
    for tag, wanted in expected(lines).items():
        assert_same([(event.step, event.value) for event in read.Scalars(tag)], wanted)
    if training == "fedavg":
        assert [event.value for event in read.Scalars("federation/participants")] == [2.0] * settings.rounds
    if training == "centralised":
        rates = [learning_rate(settings, number / settings.rounds) for number in (1, 2, 3)]
        assert_same([(e.step, e.value) for e in read.Scalars("train/learning_rate")], list(enumerate(rates, 1)))


def test_test_figures_are_those_of_the_results(tracked):
    settings, out = tracked
    for arm, places in read_json(out / "results.json")["arms"].items():
        read = EventAccumulator(str(out / "tensorboard" / arm)).Reload()
        for place, metrics in places.items():
            for metric in ("auc", "macro_f1"):
                for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                    tag, wanted = f"test/{place}/{metric}{suffix}", (metrics.get(metric) or {}).get(key)
                    if wanted is None:
                        assert tag not in read.Tags()["scalars"]
                    else:
                        assert_same([(e.step, e.value) for e in read.Scalars(tag)], [(settings.rounds, wanted)])


def test_no_event_file_contains_a_folder_a_file_or_a_patient(tracked):
    settings, out = tracked
    text = b"".join(path.read_bytes() for path in (out / "tensorboard").rglob("*tfevents*")).decode("latin-1")
    assert "sites/north/validation_loss" in text
    for word in private_words(settings, out):
        assert word not in text


def private_words(settings, out):
    """Folders, files and patients of a run, and the parts of their paths."""
    rows = [line.split(",") for path in (out / "splits").iterdir() for line in path.read_text().splitlines()[1:]]
    files, patients = {row[1] for row in rows}, {row[3] for row in rows if row[3]}
    assert len(files) > 60
    assert patients
    folders = {str(source.path) for source in settings.sites.values()} | {str(settings.cache), str(out), out.name}
    return files | {patient for patient in patients if len(patient) > 3} | folders | {"labels-csv", "/archives"}


def test_a_run_that_was_trained_untracked_is_sent_to_mlflow_on_resume_once(tracked):
    settings, out = tracked
    with mlflow_server() as (address, received):
        for _ in range(2):
            said = run(settings, out, resume=True, track=f"mlflow:{address}")
            assert "track =" not in said
    for training in (*ARMS, *TUNED):
        found = received.named(training)
        for tag, wanted in expected(history(out, training)).items():
            assert_same([(step, value) for key, step, value in found["metrics"] if key == tag], wanted)
        assert found["info"]["status"] == "FINISHED"
    parameters = received.named("fedavg")["params"]
    assert (parameters["model"], parameters["weights"]) == ("test_resnet", "none")
    assert json.loads(parameters["sites"]) == ["north", "south"]
    assert json.loads(parameters["phantoms"]) is False
    for word in private_words(settings, out):
        assert word not in received.text
    assert "http" not in json.dumps(read_json(out / "results.json")["settings"])


def test_a_server_that_is_down_is_noted_once_and_the_run_ends(tracked):
    settings, out = tracked
    said = run(settings, out, resume=True, track="mlflow:http://127.0.0.1:1")
    assert said.count("track = mlflow: figures could not be sent") == 1
    assert "Report:" in said
