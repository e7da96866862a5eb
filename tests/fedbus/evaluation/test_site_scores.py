"""A site's scores of the best model: exact at the site, nearly the bootstrap over all, and checked at the hub."""

import json

import numpy as np
import pytest
from flwr.app import MetricRecord
from flwr.common.serde import metric_record_from_proto, metric_record_to_proto

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.metrics import weighted_confusion
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_scores import SiteScores, mean_over_seeds, pool_sites, score_site

SHARES = {"north": (0.5, 0.3, 0.2), "south": (0.25, 0.15, 0.6), "west": (0.7, 0.3, 0.0)}


def rows_of_site(name, groups=200, seed=0, skill=0.45):
    """Rows of one site, 1 to 5 a group; a patient's images share the label and how hard they are."""
    fixed, random = np.random.default_rng([7, len(name), groups]), np.random.default_rng(seed)
    sizes = fixed.integers(1, 6, size=groups)
    of_group = np.repeat(np.arange(groups), sizes)
    labels = fixed.choice(3, size=groups, p=SHARES[name])[of_group]
    hard = random.normal(skill, 0.35, size=groups)[of_group]
    probabilities = random.dirichlet([1, 1, 1], size=len(labels))
    probabilities[np.arange(len(labels)), labels] += np.clip(hard, 0, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"{name}/p{g}" for g in of_group]
    return Predictions(labels, probabilities, names, [name] * len(labels), [f"{i}.png" for i in range(len(labels))])


def joined(parts):
    columns = ("labels", "probabilities", "groups", "sites", "paths")
    return Predictions(*(np.concatenate([getattr(split, column) for split in parts]) for column in columns))


@pytest.fixture(scope="module")
def all_rows():
    return {name: rows_of_site(name, groups) for name, groups in (("north", 200), ("south", 150), ("west", 240))}


@pytest.fixture(scope="module")
def scores(all_rows):
    return {name: score_site(rows, 300, 5) for name, rows in all_rows.items()}


def test_a_sites_scores_are_those_of_the_pooled_evaluation_to_the_last_digit(all_rows, scores):
    everywhere = joined(all_rows.values())
    for name, found in scores.items():
        assert found.metrics == evaluate([everywhere.select(name)], 300, 5)


def test_scores_of_several_sites_at_once_are_refused(all_rows):
    with pytest.raises(RunError, match="north, south"):
        score_site(joined([all_rows["south"], all_rows["north"]]), 10, 0)


def test_the_covariance_is_that_of_redrawing_groups(all_rows, scores):
    rows, found = all_rows["south"], scores["south"]
    weights = draw_weights(rows.groups, rows.sites, 40_000, 3).astype(float)
    counts = weighted_confusion(rows.labels, rows.probabilities.argmax(axis=1), weights).reshape(-1, 9)
    brute = np.cov(counts.T)
    # The standard error of a covariance of this many draws is about scale / sqrt(40000) = 0.005 of it.
    scale = np.sqrt(np.outer(np.diag(brute), np.diag(brute)))
    assert np.abs(found.covariance - brute).max() < 0.03 * scale.max()
    assert (np.abs(found.covariance - brute) <= 0.03 * scale + 1e-12).all()
    # Of images alone it would be far smaller: groups are what is redrawn.
    assert np.trace(found.covariance) > 2 * (found.counts * (1 - found.counts / found.counts.sum())).sum()


def test_a_group_of_known_counts_has_their_products():
    labels, said = [0, 0, 1, 1, 1], [0, 2, 1, 1, 0]
    rows = Predictions(labels, np.eye(3)[said], list("aabbb"), ["s"] * 5, list("12345"))
    found = score_site(rows, 20, 0)
    first, second = [1, 0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 2, 0, 0, 0, 0]
    np.testing.assert_array_equal(found.scatter, np.outer(first, first) + np.outer(second, second))
    assert found.scatter.dtype == np.int64
    # Two groups, drawn twice: (a,a), (a,b), (b,a), (b,b); in each cell the count is x times 0, 1 or 2.
    difference = np.subtract(first, second)
    np.testing.assert_allclose(found.covariance, np.outer(difference, difference) / 2)


def test_the_pool_has_the_values_of_all_rows_and_nearly_their_intervals(all_rows, scores):
    exact, pooled = evaluate([joined(all_rows.values())], 4000, 5), pool_sites(scores, 4000, 5)
    assert pooled.keys() == exact.keys()
    assert pooled["auc"] is pooled["ece"] is None
    for key in ("confusion", "images", "groups"):
        assert pooled[key] == exact[key]
    pairs = [(pooled[name], exact[name]) for name in ("accuracy", "macro_f1")]
    pairs += [(pooled[name][label], exact[name][label]) for name in ("sensitivity", "specificity") for label in CLASSES]
    for ours, theirs in pairs:
        assert ours["value"] == theirs["value"]
        assert ours["low"] == pytest.approx(theirs["low"], abs=0.01)
        assert ours["high"] == pytest.approx(theirs["high"], abs=0.01)
        assert ours["high"] - ours["low"] == pytest.approx(theirs["high"] - theirs["low"], rel=0.15)


def test_a_class_that_no_site_has_stays_undefined_and_the_pool_is_repeatable(all_rows):
    west = {"west": score_site(all_rows["west"], 50, 1)}
    pooled = pool_sites(west, 500, 2)
    assert pooled["sensitivity"]["normal"] is pooled["specificity"]["normal"] is None
    assert pooled["macro_f1"]["value"] == west["west"].metrics["macro_f1"]["value"]
    assert pooled["macro_f1"]["low"] > 0.5 * pooled["macro_f1"]["value"]  # no row of a third class was drawn
    assert pooled == pool_sites(west, 500, 2)
    assert pooled["accuracy"]["low"] != pool_sites(west, 500, 3)["accuracy"]["low"]
    with pytest.raises(RunError, match="No site"):
        pool_sites({}, 10, 0)


def test_a_model_without_mistakes_has_no_width():
    rows = rows_of_site("north", 30, skill=50.0)
    perfect = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (rows.probabilities.argmax(axis=1) == rows.labels).mean() > 0.8
    right = Predictions(rows.labels, np.eye(3)[rows.labels], rows.groups, rows.sites, rows.paths)
    assert pool_sites({"north": score_site(right, 50, 0)}, 200, 0)["accuracy"] == perfect


def test_seeds_are_averaged_as_the_evaluation_does_with_intervals_not_narrower():
    runs = [rows_of_site("north", 200, seed) for seed in range(3)]
    exact = evaluate(runs, 1000, 5)
    sites = mean_over_seeds([score_site(run, 1000, 5).metrics for run in runs])
    pooled = mean_over_seeds([pool_sites({"north": score_site(run, 10, 5)}, 1000, 5) for run in runs])
    assert pooled["auc"] is None
    for name in ("accuracy", "macro_f1", "auc", "ece"):
        for found in [sites[name], pooled[name]] if pooled[name] else [sites[name]]:
            assert found.keys() == exact[name].keys()
            assert found["value"] == pytest.approx(exact[name]["value"], abs=1e-15)
            assert found["spread"] == pytest.approx(exact[name]["spread"], abs=1e-15)
    assert sites["accuracy"]["high"] - sites["accuracy"]["low"] >= exact["accuracy"]["high"] - exact["accuracy"]["low"]
    for found in (sites, pooled):
        assert {key: found[key] for key in ("confusion", "images", "groups")} == {
            key: exact[key] for key in ("confusion", "images", "groups")
        }
    one = score_site(runs[0], 10, 5).metrics
    assert mean_over_seeds([one]) is one
    with pytest.raises(RunError, match="different test rows"):
        mean_over_seeds([one, score_site(rows_of_site("north", 199), 10, 5).metrics])


@pytest.mark.parametrize("name", SHARES)
def test_the_record_crosses_flower_and_json_unchanged(scores, name):
    sent = scores[name].to_metrics()
    assert (sent["test-sensitivity-normal"] == []) == (name == "west")
    arrived = dict(metric_record_from_proto(metric_record_to_proto(MetricRecord(sent))))
    for record in (arrived, json.loads(json.dumps(sent)), sent | {"num-examples": 3.0}):
        found = SiteScores.from_metrics(record)
        assert found.metrics == scores[name].metrics
        np.testing.assert_array_equal(found.scatter, scores[name].scatter)
        assert found.scatter.dtype == np.int64


def test_nothing_of_a_single_image_or_patient_is_in_the_record(scores):
    sent = scores["north"].to_metrics()
    assert sum(np.size(value) for value in sent.values()) == 10 * 3 + 9 + 81 + 2
    assert not any(isinstance(value, str) for value in sent.values())


def with_cell(key, place, change):
    def apply(record):
        record[key] = list(record[key])
        record[key][place] += change

    return apply


def test_every_key_is_needed(scores):
    for key in scores["north"].to_metrics():
        record = scores["north"].to_metrics()
        del record[key]
        with pytest.raises(RunError, match=f"'{key}' is missing"):
            SiteScores.from_metrics(record)


def put(key, value):
    return lambda record: record.update({key: value})


def both(*changes):
    return lambda record: [change(record) for change in changes]


REFUSED = {
    "a figure that is not finite": (put("test-auc", [float("nan"), 0.1, 0.9]), "test-auc is no list"),
    "an end that is not finite": (put("test-ece", [0.1, 0.0, float("inf")]), "test-ece is no list"),
    "a figure above 1": (put("test-ece", [0.2, 0.1, 1.5]), "test-ece is no list"),
    "a figure below 0": (put("test-auc", [0.2, -0.1, 0.5]), "test-auc is no list"),
    "a figure that is text": (put("test-auc", ["0.5", "0.4", "0.6"]), "test-auc is no list"),
    "a figure without its list": (put("test-auc", 0.5), "test-auc is no list"),
    "a figure without ends": (put("test-auc", [0.5]), "not a value with an interval"),
    "ends in the wrong order": (put("test-auc", [0.5, 0.6, 0.4]), "not a value with an interval"),
    "a value that is not the confusion's": (put("test-accuracy", [0.99, 0.9, 1.0]), "test-accuracy is not that"),
    "a recall that is not the confusion's": (
        put("test-sensitivity-benign", [0.01, 0.0, 1.0]),
        "test-sensitivity-benign is not that",
    ),
    "a confusion of eight": (put("test-confusion", [1] * 8), "test-confusion is not 9 whole"),
    "a confusion of shares": (put("test-confusion", [0.5] * 9), "test-confusion is not 9 whole"),
    "a confusion of rows": (put("test-confusion", [[1, 2, 3]] * 3), "test-confusion is not 9 whole"),
    "rows of unequal length": (put("test-confusion", [[1], [1, 2]]), "test-confusion is no list"),
    "a negative count": (with_cell("test-confusion", 0, -10_000), "test-confusion is out of range"),
    "more images than there are": (put("test-confusion", [2**60] * 9), "test-confusion is out of range"),
    "a number past 64 bits": (put("test-images", 2**80), "test-images is not 1 whole"),
    "another number of images": (put("test-images", 12), "test-images is 12"),
    "no image": (
        both(put("test-confusion", [0] * 9), put("test-scatter", [0] * 81), put("test-images", 0)),
        "test-images is 0",
    ),
    "no group": (put("test-groups", 0), "can't be 0 groups"),
    "more groups than images": (put("test-groups", 100_000), "can't be 100000 groups"),
    "half a group": (put("test-groups", 2.5), "test-groups is not 1 whole"),
    "a scatter of eighty": (put("test-scatter", [0] * 80), "test-scatter is not 81 whole"),
    "a negative product": (with_cell("test-scatter", 1, -10_000_000), "test-scatter is out of range"),
    "a scatter that is not symmetric": (with_cell("test-scatter", 1, 1), "not symmetric"),
    "squares below their counts": (put("test-scatter", [0] * 81), "does not fit test-confusion"),
    "products above those of the sums": (with_cell("test-scatter", 0, 10**9), "does not fit test-confusion"),
    "one group where many are said": (lambda r: r.update(_as_one_group(r)), "does not fit 200 groups"),
    "fewer groups than the squares need": (put("test-groups", 1), "not possible with 1 groups"),
}


def _as_one_group(record):
    return {"test-scatter": np.outer(record["test-confusion"], record["test-confusion"]).ravel().tolist()}


@pytest.mark.parametrize("what", REFUSED)
def test_impossible_scores_are_refused(scores, what):
    change, reason = REFUSED[what]
    record = scores["north"].to_metrics()
    change(record)
    with pytest.raises(RunError, match=reason):
        SiteScores.from_metrics(record)


def test_a_figure_of_a_class_that_the_site_lacks_is_refused(scores):
    record = scores["west"].to_metrics() | {"test-sensitivity-normal": [0.5, 0.4, 0.6]}
    with pytest.raises(RunError, match="test-sensitivity-normal is not that"):
        SiteScores.from_metrics(record)


def test_groups_of_one_image_each_are_accepted_and_widen_nothing():
    rows = rows_of_site("north", 60)
    each = [f"north/{i}" for i in range(len(rows.labels))]
    found = score_site(Predictions(rows.labels, rows.probabilities, each, rows.sites, rows.paths), 20, 0)
    np.testing.assert_array_equal(found.scatter, np.diag(found.counts))
    assert SiteScores.from_metrics(found.to_metrics()).metrics["groups"] == len(rows.labels)
