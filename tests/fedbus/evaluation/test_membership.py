"""Membership scores and the attack: equal to scikit-learn's figures, blind without memorisation, certain with it."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from fedbus.classes import CLASSES
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.membership import FEWEST, FOLDS, confidences, score_groups
from fedbus.evaluation.membership_attack import measure_membership, true_positive_rate
from fedbus.evaluation.metrics import binary_auc
from fedbus.evaluation.predictions import Predictions, join
from fedbus.seeds import derive_seed

DRAWS, SEED = 200, 3


def predictions(
    name: str, groups: int, *, confidence: float = 0.0, seed: int = 0, each: int = 2, site: str = "north"
) -> Predictions:
    """Groups of `each` images, whose logit-scaled confidence is normal around the given value and their class's."""
    random = np.random.default_rng([seed, groups])
    labels = np.repeat(random.integers(len(CLASSES), size=groups), each)
    logit = random.normal(confidence + labels, 1 + labels)  # the classes differ, as they do for a real model
    truth = 1 / (1 + np.exp(-logit))
    probabilities = np.repeat((1 - truth)[:, None] / 2, len(CLASSES), axis=1)
    probabilities[np.arange(len(labels)), labels] = truth
    names = np.repeat([f"{site}/{name}-{place}" for place in range(groups)], each)
    return Predictions(labels, probabilities, names, [site] * len(labels), [f"{i}.png" for i in range(len(labels))])


def attack(inside: Predictions, outside: Predictions, draws: int = DRAWS) -> dict:
    return measure_membership({"fedavg": [[(inside, outside)]]}, ["north"], draws, SEED)


def test_confidence_is_the_logit_of_the_true_class():
    rows = predictions("a", 20)
    truth = rows.probabilities[np.arange(len(rows.labels)), rows.labels]
    np.testing.assert_allclose(confidences(rows.labels, rows.probabilities), np.log(truth / (1 - truth)), rtol=1e-9)
    sure = np.array([[1 - 2e-11, 1e-11, 1e-11], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    found = confidences(np.array([0, 0, 1]), sure)
    assert found[0] == pytest.approx(-np.log(2e-11), rel=1e-6), "1 - p would keep six digits"
    assert np.isfinite(found).all()


def test_scores_do_not_depend_on_how_confident_the_model_is_of_a_class():
    """Stretch and shift the confidences of every class, members and non-members alike: no score changes."""
    inside, outside = predictions("m", 30, seed=1), predictions("n", 40, seed=2)
    before = score_groups(inside, outside, SEED)
    after = score_groups(_stretched(inside), _stretched(outside), SEED)
    assert before.left_out == after.left_out == ()
    assert before.groups.tolist() == [*np.unique(inside.groups), *np.unique(outside.groups)]
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-6)


def _stretched(rows: Predictions) -> Predictions:
    logit = confidences(rows.labels, rows.probabilities) * (0.5 + rows.labels / 4) + 1 - rows.labels
    truth = 1 / (1 + np.exp(-logit))
    probabilities = np.repeat((1 - truth)[:, None] / 2, len(CLASSES), axis=1)
    probabilities[np.arange(len(truth)), rows.labels] = truth
    return Predictions(rows.labels, probabilities, rows.groups, rows.sites, rows.paths)


def test_the_score_of_a_group_does_not_depend_on_its_own_images_in_the_fits():
    """Move one non-member far away: the scores of its own fold, itself included, use fits that do not know it."""
    inside, outside = predictions("m", 30, seed=1), predictions("n", 40, seed=2)
    before = score_groups(inside, outside, SEED)
    moved, label = outside.probabilities.copy(), int(outside.labels[0])
    for row in (0, 1):  # the images of the first group
        moved[row] = np.where(np.arange(3) == label, 1 - 2e-9, 1e-9)
    changed = Predictions(outside.labels, moved, outside.groups, outside.sites, outside.paths)
    after = score_groups(inside, changed, SEED)
    same = before.scores == after.scores
    others = np.array([_label_of(group, inside, outside) != label for group in after.groups.tolist()])
    assert same[others].all(), "another class has fits of its own"
    mine = after.groups == outside.groups[0]
    assert after.scores[mine][0] > before.scores[mine][0]
    share = (same & ~others).sum() / (~others).sum()
    assert 0 < share < 2 / FOLDS, "only the groups of its fold keep their scores"
    assert same[after.member & ~others].any(), "members are dealt into the folds too"


def _label_of(group: str, *rows: Predictions) -> int:
    return next(int(each.labels[each.groups == group][0]) for each in rows if (each.groups == group).any())


def test_the_score_of_a_group_is_the_mean_over_its_images():
    inside, outside = predictions("m", 30, seed=1, each=3), predictions("n", 40, seed=2, each=3)
    once = score_groups(inside, outside, SEED)
    keep = np.arange(len(inside.labels)) % 3
    parts = [score_groups(inside.take(keep == place), outside, SEED) for place in range(3)]
    mean = np.mean([part.scores[part.member] for part in parts], axis=0)
    np.testing.assert_allclose(once.scores[once.member], mean, rtol=1e-12)


def test_auc_and_true_positive_rates_are_scikit_learns():
    random = np.random.default_rng(0)
    for decimals in (8, 1):  # the second with many ties
        member = random.random(300) < 0.6
        scores = np.round(random.normal(size=300) + member, decimals)
        weights = draw_weights(np.arange(300).astype(str), member.astype(str), 8, SEED).astype(float)
        areas = binary_auc(scores, member, weights)
        for place, drawn in enumerate(weights):
            wrong, right, _ = roc_curve(member, scores, sample_weight=drawn, drop_intermediate=False)
            assert areas[place] == pytest.approx(roc_auc_score(member, scores, sample_weight=drawn))
            for level in (0.01, 0.05, 0.2):
                rate = true_positive_rate(scores, member, drawn[None], level)
                assert rate == pytest.approx(right[wrong <= level + 1e-12].max())


def test_the_figures_of_a_site_are_scikit_learns_of_its_scores():
    inside, outside = predictions("m", 120, confidence=1, seed=1), predictions("n", 110, seed=2)
    found = attack(inside, outside)
    assert found["sites"]["north"] == {"members": 120, "non_members": 110, "left_out": [], "reason": ""}
    scored = score_groups(inside, outside, derive_seed(SEED, "membership", "north"))
    figures = found["arms"]["fedavg"]["north"]
    assert figures["auc"]["value"] == pytest.approx(roc_auc_score(scored.member, scored.scores))
    wrong, right, _ = roc_curve(scored.member, scored.scores, drop_intermediate=False)
    assert figures["tpr_at_1"]["value"] == pytest.approx(right[wrong <= 0.01].max())
    assert figures["tpr_at_5"]["value"] == pytest.approx(right[wrong <= 0.05].max())
    assert figures["auc"]["low"] < figures["auc"]["value"] < figures["auc"]["high"]
    assert found["arms"]["fedavg"]["mean"] == figures, "the mean of one site"


def test_without_memorisation_the_attack_is_blind():
    """Members and non-members from one distribution: .5 is in about 95 of 100 intervals, and the mean AUC is .5."""
    aucs, covered = [], 0
    for seed in range(40):
        found = attack(predictions("m", 90, seed=seed), predictions("n", 60, seed=1000 + seed), draws=100)
        auc = found["arms"]["fedavg"]["north"]["auc"]
        aucs.append(auc["value"])
        covered += auc["low"] <= 0.5 <= auc["high"]
    assert abs(np.mean(aucs) - 0.5) < 3 * np.std(aucs) / np.sqrt(len(aucs))
    assert covered >= 32


def test_a_model_that_memorised_its_patients_gives_all_of_them_away():
    figures = attack(predictions("m", 120, confidence=30, seed=1), predictions("n", 110, seed=2))["arms"]["fedavg"]
    for name in ("auc", "tpr_at_1", "tpr_at_5"):
        assert figures["north"][name] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_the_auc_of_a_known_shift_is_that_of_two_normal_distributions():
    """One image per group, one class, members one deviation higher: AUC is the normal probability of 1 / sqrt(2)."""
    rows = [predictions(name, 3000, confidence=c, seed=seed, each=1) for name, c, seed in (("m", 1, 1), ("n", 0, 2))]
    inside, outside = (each.take(each.labels == 0) for each in rows)
    auc = attack(inside, outside, draws=100)["arms"]["fedavg"]["north"]["auc"]
    assert auc["low"] < norm.cdf(np.sqrt(0.5)) < auc["high"]


def test_sites_of_few_groups_are_not_attacked_and_say_why():
    inside, outside = predictions("m", 40, seed=1), predictions("n", FEWEST - 1, seed=2)
    found = attack(inside, outside)
    assert found["arms"] == {}
    north = found["sites"]["north"]
    assert north["reason"] == "9 test groups; 10 are needed"
    south = [
        predictions(name, 60, seed=seed, each=1, site="south") for name, seed in (("m", 3), ("n", 4))
    ]  # fmt: skip
    both = join([inside, south[0]]), join([outside, south[1]])
    found = measure_membership({"fedavg": [[both]]}, ["north", "south"], DRAWS, SEED)
    assert found["arms"]["fedavg"].keys() == {"south", "mean"}
    assert found["arms"]["fedavg"]["mean"] == found["arms"]["fedavg"]["south"]


def test_true_positive_rates_need_enough_non_members():
    for non_members, defined in ((19, set()), (20, {"tpr_at_5"}), (100, {"tpr_at_1", "tpr_at_5"})):
        rows = [predictions(name, 120, seed=seed, each=1) for name, seed in (("m", 1), ("n", 2))]
        outside = rows[1].take(np.arange(120) < non_members)
        outside = Predictions(np.zeros(non_members), _same_class(outside), outside.groups, outside.sites, outside.paths)
        inside = Predictions(np.zeros(120), _same_class(rows[0]), rows[0].groups, rows[0].sites, rows[0].paths)
        figures = attack(inside, outside)["arms"]["fedavg"]["north"]
        assert figures["auc"] is not None
        assert {name for name in ("tpr_at_1", "tpr_at_5") if figures[name]} == defined


def _same_class(rows: Predictions) -> np.ndarray:
    truth = rows.probabilities[np.arange(len(rows.labels)), rows.labels][:, None]
    return np.concatenate([truth, (1 - truth) / 2, (1 - truth) / 2], axis=1)


def test_a_rate_that_a_site_is_too_small_for_is_averaged_over_the_others():
    sites = {"north": 120, "south": 15}
    rows = [
        join([predictions(name, groups, seed=seed, each=1, site=site) for site, groups in sites.items()])
        for name, seed in (("m", 1), ("n", 2))
    ]
    same = [Predictions(np.zeros(len(r.labels)), _same_class(r), r.groups, r.sites, r.paths) for r in rows]
    places = measure_membership({"a": [[(same[0], same[1])]]}, list(sites), DRAWS, SEED)["arms"]["a"]
    assert places["south"]["tpr_at_5"] is None
    assert places["mean"]["tpr_at_5"] == places["north"]["tpr_at_5"]
    assert places["mean"]["auc"]["value"] == pytest.approx(
        (places["north"]["auc"]["value"] + places["south"]["auc"]["value"]) / 2
    )


def test_a_class_with_few_non_members_is_left_out_by_name():
    outside = predictions("n", 60, seed=2)
    rare = np.unique(outside.groups[outside.labels == 2])[:5]
    kept = outside.take((outside.labels != 2) | np.isin(outside.groups, rare))
    inside = predictions("m", 60, seed=1)
    scored = score_groups(inside, kept, SEED)
    assert scored.left_out == (CLASSES[2],), "five groups less those of a fold"
    assert not np.isin(inside.groups[inside.labels == 2], scored.groups).any()


def test_seeds_and_folds_are_averaged():
    runs = [(predictions("m", 60, confidence=c, seed=1), predictions("n", 50, seed=2)) for c in (0, 2)]
    alone = [measure_membership({"a": [[run]]}, ["north"], DRAWS, SEED)["arms"]["a"]["north"]["auc"] for run in runs]
    seeds = measure_membership({"a": [runs]}, ["north"], DRAWS, SEED)["arms"]["a"]["north"]["auc"]
    assert seeds["value"] == pytest.approx((alone[0]["value"] + alone[1]["value"]) / 2)
    assert seeds["spread"] == pytest.approx(abs(alone[0]["value"] - alone[1]["value"]) / np.sqrt(2))
    folds = measure_membership({"a": [[run] for run in runs]}, ["north"], DRAWS, SEED)
    assert folds["sites"]["north"]["members"] == 120
    low, high = sorted(each["value"] for each in alone)
    assert low < folds["arms"]["a"]["north"]["auc"]["value"] < high


def test_the_order_of_rows_does_not_matter():
    inside, outside = predictions("m", 40, seed=1), predictions("n", 40, seed=2)
    order = np.random.default_rng(0).permutation(len(inside.labels))
    columns = ("labels", "probabilities", "groups", "sites", "paths")
    shuffled = Predictions(*(getattr(inside, name)[order] for name in columns))
    first, second = (attack(rows, outside)["arms"]["fedavg"]["north"] for rows in (inside, shuffled))
    for name, figure in first.items():
        assert second[name] == (figure and pytest.approx(figure))
