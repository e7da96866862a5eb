"""Predictions files, arms with intervals, paired differences."""

import dataclasses
import time

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from fedbus.classes import CLASSES
from fedbus.errors import RunError, SettingsError
from fedbus.evaluation.evaluate import confusion_metrics, differences, evaluate
from fedbus.evaluation.predictions import Predictions


def phantom_predictions(seed=0, skill=0.5, count=90, two_class_site=True):
    """Rows of two sites, two rows a group; the rows are the same for every seed and skill."""
    fixed, random = np.random.default_rng(99), np.random.default_rng(seed)
    sites = np.where(np.arange(count) < count // 2, "busi", "gdph")
    labels = fixed.integers(3, size=count)
    if two_class_site:
        labels[sites == "gdph"] %= 2
    probabilities = random.dirichlet([1, 1, 1], size=count)
    probabilities[np.arange(count), labels] += skill
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"{site}/{i // 2}" for i, site in enumerate(sites)]
    return Predictions(labels, probabilities, groups, sites, [f"img ({i}), é.png" for i in range(count)])


def test_csv_round_trip_is_exact(tmp_path):
    predictions = phantom_predictions()
    predictions.to_csv(tmp_path / "predictions.csv")
    again = Predictions.from_csv(tmp_path / "predictions.csv")
    for field in dataclasses.fields(Predictions):
        before, after = getattr(predictions, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype
    header = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "site,path,label,group,benign,malignant,normal"
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "columns"),
        ("site,path\n", "columns"),
        ("site,path,label,group,benign,malignant,normal\n", "can't be read"),
        ("site,path,label,group,benign,malignant,normal\na,b,cyst,a/b,1,0,0\n", r"cyst|not in"),
        ("site,path,label,group,benign,malignant,normal\na,b,benign,a/b,1,0,x\n", "'x'"),
        ("site,path,label,group,benign,malignant,normal\na,b,benign,a/b,1,0,0\na,c,beni", "can't be read"),
    ],
)
def test_a_broken_csv_is_refused_by_name(tmp_path, text, problem):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=problem) as caught:
        Predictions.from_csv(path)
    assert str(path) in str(caught.value)


def test_a_missing_csv_is_refused_by_name(tmp_path):
    with pytest.raises(RunError, match=r"nowhere\.csv"):
        Predictions.from_csv(tmp_path / "nowhere.csv")


def test_outputs_that_are_not_probabilities_are_refused():
    good = phantom_predictions()
    for broken in (np.nan, -0.2, 0.9):
        probabilities = good.probabilities.copy()
        probabilities[3, 1] = broken
        with pytest.raises(RunError, match=r"busi/img \(3\)"):
            dataclasses.replace(good, probabilities=probabilities)
    with pytest.raises(RunError, match="89"):
        dataclasses.replace(good, paths=good.paths[1:])
    with pytest.raises(RunError, match="out of range"):
        dataclasses.replace(good, labels=good.labels + 1)
    with pytest.raises(RunError, match="no predictions"):
        Predictions([], np.empty((0, 3)), [], [], [])


def test_select_keeps_the_rows_of_one_site():
    site = phantom_predictions().select("gdph")
    assert set(site.sites.tolist()) == {"gdph"}
    assert site.paths[0] == "img (45), é.png"
    assert len(site.labels) == len(site.probabilities) == 45
    with pytest.raises(RunError, match="busi, gdph"):
        phantom_predictions().select("elsewhere")


def test_values_are_the_means_over_seeds_of_scikit_learns():
    runs = [phantom_predictions(seed) for seed in range(3)]
    result = evaluate(runs, draws=200, seed=1)
    labels, predicted = runs[0].labels, [run.probabilities.argmax(axis=1) for run in runs]
    expected = {
        "accuracy": [accuracy_score(labels, p) for p in predicted],
        "macro_f1": [f1_score(labels, p, average="macro") for p in predicted],
        "auc": [roc_auc_score(labels, run.probabilities, multi_class="ovr") for run in runs],
    }
    for name, values in expected.items():
        assert result[name]["value"] == pytest.approx(np.mean(values), abs=1e-12)
        assert result[name]["spread"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert result[name]["low"] < result[name]["value"] < result[name]["high"]
    assert result["confusion"] == sum(confusion_matrix(labels, p) for p in predicted).tolist()
    assert (result["images"], result["groups"]) == (90, 46)  # row 44 and row 45 are of two sites


def test_interval_equals_a_loop_that_redraws_rows():
    """The same bootstrap, written the slow way: rows of drawn groups are copied and scored."""
    predictions, random = phantom_predictions(two_class_site=False), np.random.default_rng(5)
    scores = []
    for _ in range(1500):
        rows = []
        for site in ("busi", "gdph"):
            names = np.unique(predictions.groups[predictions.sites == site])
            for name in random.choice(names, size=len(names)):
                rows.extend(np.flatnonzero(predictions.groups == name))
        scores.append(np.mean(predictions.labels[rows] == predictions.probabilities[rows].argmax(axis=1)))
    result = evaluate([predictions], draws=4000, seed=2)["accuracy"]
    assert result["low"] == pytest.approx(np.percentile(scores, 2.5), abs=0.02)
    assert result["high"] == pytest.approx(np.percentile(scores, 97.5), abs=0.02)
    assert "spread" not in result


def test_a_site_without_normals_is_scored_benign_against_malignant():
    site = phantom_predictions().select("gdph")
    result = evaluate([site], draws=100, seed=0)
    benign, malignant = site.probabilities[:, 0], site.probabilities[:, 1]
    expected = roc_auc_score(site.labels, malignant / (benign + malignant))
    assert result["auc"]["value"] == pytest.approx(expected, abs=1e-12)
    predicted = site.probabilities.argmax(axis=1)
    # Calling a lesion normal is an error here too.
    assert (predicted == 2).any()
    assert result["accuracy"]["value"] == pytest.approx(np.mean(predicted == site.labels))
    f1 = f1_score(site.labels, predicted, labels=[0, 1], average="macro")
    assert result["macro_f1"]["value"] == pytest.approx(f1, abs=1e-12)
    assert result["sensitivity"]["normal"] is None
    assert result["specificity"]["normal"] is None
    assert result["specificity"]["benign"]["value"] == pytest.approx(np.mean(predicted[site.labels == 1] != 0))


def test_rows_of_one_class_have_no_auc_and_no_specificity():
    site = phantom_predictions()
    only = site.labels == 1
    names = ("labels", "probabilities", "groups", "sites", "paths")
    result = evaluate([Predictions(*(getattr(site, name)[only] for name in names))], draws=50, seed=0)
    assert result["auc"] is None
    assert result["specificity"] == dict.fromkeys(CLASSES)
    assert result["sensitivity"]["malignant"]["value"] == result["accuracy"]["value"]


def test_same_seed_same_interval_and_other_seed_another():
    run = phantom_predictions()
    assert evaluate([run], 100, 1) == evaluate([run], 100, 1)
    assert evaluate([run], 100, 1)["auc"] != evaluate([run], 100, 2)["auc"]


def test_identical_arms_differ_by_exactly_nothing():
    runs = [phantom_predictions(seed) for seed in (1, 2)]
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert differences(runs, list(runs), 200, 7) == dict.fromkeys(("accuracy", "macro_f1", "auc"), nothing)


def test_differences_are_signed_and_tighter_than_unpaired_intervals():
    good = [phantom_predictions(1, skill=0.6)]
    better = [dataclasses.replace(good[0], probabilities=good[0].probabilities.copy())]
    mistakes = np.flatnonzero(good[0].probabilities.argmax(axis=1) != good[0].labels)[:5]
    better[0].probabilities[mistakes] = np.eye(3)[better[0].labels[mistakes]]
    ahead, behind = differences(better, good, 1000, 3), differences(good, better, 1000, 3)
    assert ahead["accuracy"]["value"] == pytest.approx(5 / 90)
    assert ahead["accuracy"]["low"] == -behind["accuracy"]["high"] > 0
    own = [evaluate(arm, 1000, 3)["accuracy"] for arm in (good, better)]
    assert own[0]["high"] > own[1]["low"]  # the unpaired intervals overlap


def test_runs_over_different_rows_are_refused():
    run, moved = phantom_predictions(), phantom_predictions()
    order = np.arange(90)[::-1]
    moved = Predictions(*(getattr(run, f.name)[order] for f in dataclasses.fields(run)))
    with pytest.raises(RunError, match="differ in the sites"):
        differences([run], [moved], 10, 0)
    with pytest.raises(RunError, match="differ in the groups"):
        evaluate([run, dataclasses.replace(run, groups=run.paths)], 10, 0)
    with pytest.raises(RunError, match="no runs"):
        evaluate([], 10, 0)
    with pytest.raises(SettingsError, match="0 bootstrap draws"):
        evaluate([run], 0, 0)


def test_confusion_metrics_equal_those_of_the_rows():
    run = phantom_predictions().select("gdph")
    predicted = run.probabilities.argmax(axis=1)
    counts = confusion_matrix(run.labels, predicted, labels=[0, 1, 2])
    scores = confusion_metrics(counts)
    assert scores["accuracy"] == pytest.approx(accuracy_score(run.labels, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(run.labels, predicted, labels=[0, 1], average="macro"))
    assert scores["recall"]["normal"] is None
    assert scores["recall"]["benign"] == pytest.approx(np.mean(predicted[run.labels == 0] == 0))
    with pytest.raises(RunError, match="No rows"):
        confusion_metrics(np.zeros((3, 3), dtype=np.int64))


def test_two_thousand_draws_of_seven_hundred_rows_are_quick():
    run = phantom_predictions(count=700)
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        evaluate([run], 2000, 0)
        best = min(best, time.process_time() - start)
    assert best < 2.0  # about 0.15 s on one core; the limit leaves room for a busy machine
