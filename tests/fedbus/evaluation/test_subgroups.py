"""The figures of subgroups: equal to scikit-learn's, suppressed below ten patients, intervals from whole patients."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from fedbus.errors import RunError
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.measured import measure
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.subgroups import FIGURES, measure_subgroups
from fedbus.sites.lesion_size import NO_LESION

DRAWS, SEED = 20, 3


def predictions(labels: Sequence[int], seed: int = 0, each: int = 2) -> Predictions:
    """Predictions with some skill; `each` successive rows are a patient's."""
    random, count = np.random.default_rng(seed), len(labels)
    probabilities = random.dirichlet([1, 1, 1], size=count)
    probabilities[np.arange(count), labels] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"north/{i // each}" for i in range(count)]
    return Predictions(np.array(labels), probabilities, groups, ["north"] * count, [f"{i}.png" for i in range(count)])


def owners_of(rows: Predictions) -> dict[str, str]:
    return dict(zip(rows.paths.tolist(), rows.groups.tolist(), strict=True))


def column(rows: Predictions, values: Sequence[str]) -> dict[str, dict[str, str]]:
    return {"scanner": dict(zip(rows.paths.tolist(), values, strict=True))}


def groups_of(rows: Predictions, values: Sequence[str], **arms: Predictions) -> dict[str, dict]:
    """Measure one column; by value its group."""
    found = measure_subgroups(
        {name: [[run]] for name, run in (arms or {"fedavg": rows}).items()},
        column(rows, values), owners_of(rows), DRAWS, SEED,
    )  # fmt: skip
    assert [each["name"] for each in found["columns"]] == ["scanner"]
    return {group["value"]: group for group in found["columns"][0]["groups"]}


def expected_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    predicted, classes = probabilities.argmax(axis=1), np.unique(labels)
    if len(classes) == 2:
        low, high = probabilities[:, classes].T
        area = roc_auc_score(labels == classes[1], high / (low + high))
    else:
        area = np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in classes])
    return {
        "auc": area,
        "accuracy": accuracy_score(labels, predicted),
        "sensitivity": recall_score(labels == 1, predicted == 1),
        "specificity": recall_score(labels != 1, predicted != 1),
    }


@pytest.mark.parametrize("classes", [2, 3])
def test_figures_gaps_and_intervals_are_those_of_scikit_learn(classes: int) -> None:
    """Intervals: patients of the whole site are drawn, with all their rows, and each draw is scored on both sides."""
    rows = predictions(np.random.default_rng(1).integers(classes, size=120).tolist())
    values = np.where(np.arange(120) % 3 == 0, "GE", "Toshiba")  # most patients have images on both sides
    found = groups_of(rows, values.tolist())
    assert [group["images"] for group in found.values()] == [40, 80]
    sides = {value: values == value for value in found}
    points = {v: expected_figures(rows.labels[kept], rows.probabilities[kept]) for v, kept in sides.items()}

    weights = draw_weights(rows.groups, rows.sites, DRAWS, SEED)
    assert all(len(set(weights[0, [i, i + 1]].tolist())) == 1 for i in range(0, 120, 2))
    drawn: dict[str, list[dict[str, float]]] = {value: [] for value in found}
    for draw in weights:
        for value, kept in sides.items():
            chosen = np.repeat(np.arange(120), draw * kept)
            drawn[value].append(expected_figures(rows.labels[chosen], rows.probabilities[chosen]))
    for value, other in (("GE", "Toshiba"), ("Toshiba", "GE")):
        for figure in FIGURES:
            samples = np.array([draw[figure] for draw in drawn[value]])
            gaps = samples - np.array([draw[figure] for draw in drawn[other]])
            low, high = np.percentile(samples, (2.5, 97.5))
            assert found[value]["arms"]["fedavg"][figure] == pytest.approx(
                {"value": points[value][figure], "low": low, "high": high}
            )
            low, high = np.percentile(gaps, (2.5, 97.5))
            assert found[value]["gaps"]["fedavg"][figure] == pytest.approx(
                {"value": points[value][figure] - points[other][figure], "low": low, "high": high}
            )


def test_all_rows_have_the_figures_of_the_comparison() -> None:
    rows = predictions([0, 1, 2] * 40)
    found = measure_subgroups({"fedavg": [[rows]]}, {}, owners_of(rows), DRAWS, SEED)["all"]
    whole = measure([rows], DRAWS, SEED).summary()
    for figure, expected in {
        "auc": whole["auc"],
        "accuracy": whole["accuracy"],
        "sensitivity": whole["sensitivity"]["malignant"],
        "specificity": whole["specificity"]["malignant"],
    }.items():
        assert found["arms"]["fedavg"][figure] == pytest.approx(expected)
    assert (found["images"], found["patients"], found["gaps"]) == (120, 60, {})


def test_seeds_are_averaged_and_every_arm_is_measured() -> None:
    labels = [0, 1] * 60
    runs = [predictions(labels, seed) for seed in range(3)]
    found = measure_subgroups(
        {"centralised": [runs[:1]], "fedavg": [runs]},
        column(runs[0], ["a"] * 60 + ["b"] * 60),
        owners_of(runs[0]),
        50,
        0,
    )
    (group, _) = found["columns"][0]["groups"]
    values = [expected_figures(run.labels[:60], run.probabilities[:60])["auc"] for run in runs]
    assert group["arms"]["fedavg"]["auc"]["value"] == pytest.approx(np.mean(values))
    assert group["arms"]["fedavg"]["auc"]["spread"] == pytest.approx(np.std(values, ddof=1))
    assert group["arms"]["centralised"]["auc"]["value"] == pytest.approx(values[0])


def test_folds_are_averaged_and_a_fold_without_the_subgroup_is_left_out() -> None:
    folds = [predictions([0, 1] * 30, seed) for seed in range(3)]
    for number, fold in enumerate(folds):
        object.__setattr__(fold, "paths", np.array([f"{number}-{path}" for path in fold.paths]))
        object.__setattr__(fold, "groups", np.array([f"{group}-{number}" for group in fold.groups]))
    cells = {path: "a" if i % 4 < 2 and path[0] != "2" else "b" for fold in folds for i, path in enumerate(fold.paths)}
    owners = {path: owner for fold in folds for path, owner in owners_of(fold).items()}
    found = measure_subgroups({"fedavg": [[fold] for fold in folds]}, {"scanner": cells}, owners, 50, 0)
    group, rest = found["columns"][0]["groups"]
    areas = []
    for fold in folds[:2]:
        kept = np.array([cells[path] == "a" for path in fold.paths])
        areas.append([expected_figures(fold.labels[side], fold.probabilities[side])["auc"] for side in (kept, ~kept)])
    assert (group["images"], group["patients"], rest["images"]) == (60, 30, 120)
    assert group["arms"]["fedavg"]["auc"]["value"] == pytest.approx(np.mean([own for own, _ in areas]))
    assert group["gaps"]["fedavg"]["auc"]["value"] == pytest.approx(np.mean([own - other for own, other in areas]))


def test_subgroups_of_fewer_than_ten_patients_are_suppressed_and_one_of_ten_is_not() -> None:
    rows = predictions([0, 1] * 60)  # 60 patients with a benign and a malignant image each
    found = groups_of(rows, ["eight"] * 16 + ["nine"] * 18 + ["ten"] * 20 + ["rest"] * 66)
    assert found["eight"] == {"value": "eight", "suppressed": "few"}
    assert found["nine"] == {"value": "nine", "suppressed": "few"}
    assert (found["ten"]["patients"], found["ten"]["images"], found["ten"]["suppressed"]) == (10, 20, "")
    assert found["rest"]["patients"] == 33
    assert all(found["ten"]["arms"]["fedavg"].values())


def test_ten_images_of_nine_patients_are_nine_patients() -> None:
    rows = predictions([0, 1] * 60)
    found = groups_of(rows, ["a"] * 17 + ["b"] * 20 + ["c"] * 83)
    assert found["a"]["suppressed"] == "few"


def test_a_single_small_subgroup_can_not_be_found_by_subtraction() -> None:
    rows = predictions([0, 1] * 60)
    found = groups_of(rows, ["small"] * 6 + ["middle"] * 24 + ["large"] * 90)
    assert found["small"] == {"value": "small", "suppressed": "few"}
    assert found["middle"] == {"value": "middle", "suppressed": "subtraction"}
    assert found["large"]["patients"] == 45


def test_of_two_values_one_of_them_small_nothing_is_shown() -> None:
    rows = predictions([0, 1] * 60)
    found = groups_of(rows, ["yes"] * 6 + ["no"] * 114)
    assert {value: group["suppressed"] for value, group in found.items()} == {"yes": "few", "no": "subtraction"}


def test_a_gap_to_fewer_than_ten_patients_is_not_given() -> None:
    rows = predictions([0, 1] * 60)
    found = groups_of(rows, ["large"] * 110 + ["small"] * 6 + [NO_LESION] * 4)
    assert found["large"]["suppressed"] == "subtraction"
    found = groups_of(rows, ["large"] * 90 + ["small"] * 10 + [NO_LESION] * 20)  # ten other patients hide the five
    assert found["large"]["arms"]["fedavg"]["auc"]
    assert not any(found["large"]["gaps"]["fedavg"].values())


def test_a_figure_needs_ten_patients_of_its_own_class() -> None:
    """Of 30 patients in each subgroup, nine have malignant images in the first, ten in the second."""
    labels = [1] * 18 + [0] * 42 + [1] * 20 + [0] * 40
    found = groups_of(predictions(labels), ["a"] * 60 + ["b"] * 60)
    assert found["a"]["few"] == ["sensitivity"]
    assert found["a"]["arms"]["fedavg"]["sensitivity"] is None
    assert found["b"]["few"] == []
    assert found["b"]["arms"]["fedavg"]["sensitivity"]
    assert found["b"]["gaps"]["fedavg"]["sensitivity"] is None  # it would give that of the nine
    assert found["b"]["gaps"]["fedavg"]["specificity"]


def test_groups_count_where_no_patient_is_known() -> None:
    rows = predictions([0, 1] * 12, each=1)
    found = groups_of(rows, ["a"] * 11 + ["b"] * 13)
    assert [group["patients"] for group in found.values()] == [11, 13]


def test_unknown_is_a_row_of_its_own_at_the_end_and_part_of_the_rest_of_others() -> None:
    rows = predictions([0, 1] * 60)
    values = np.array(["z"] * 40 + [""] * 40 + ["a"] * 40)
    found = groups_of(rows, values.tolist())
    assert list(found) == ["a", "z", "unknown"]
    assert found["unknown"]["images"] == 40
    rest = values != "z"
    assert found["z"]["gaps"]["fedavg"]["auc"]["value"] == pytest.approx(
        expected_figures(rows.labels[~rest], rows.probabilities[~rest])["auc"]
        - expected_figures(rows.labels[rest], rows.probabilities[rest])["auc"]
    )


def test_images_without_a_lesion_are_no_part_of_lesion_sizes() -> None:
    """Otherwise two classes would be compared with three."""
    rows = predictions([0, 1, 2] * 40)
    values = np.where(rows.labels == 2, NO_LESION, np.where(np.arange(120) < 60, "3 or less", "over 3"))
    found = groups_of(rows, values.tolist())
    assert list(found) == ["3 or less", "over 3"]
    first, second = (
        expected_figures(rows.labels[kept], rows.probabilities[kept]) for kept in (values == v for v in found)
    )
    assert found["3 or less"]["gaps"]["fedavg"]["auc"]["value"] == pytest.approx(first["auc"] - second["auc"])


def test_subgroups_with_other_classes_than_the_rest_have_no_gap_in_auc() -> None:
    rows = predictions([0, 1] * 30 + [0, 1, 2] * 20)
    found = groups_of(rows, ["two"] * 60 + ["three"] * 60)
    for group in found.values():
        assert group["arms"]["fedavg"]["auc"]
        assert group["gaps"]["fedavg"]["auc"] is None
        assert group["gaps"]["fedavg"]["accuracy"]


def test_a_subgroup_of_one_class_has_no_auc_but_its_specificity() -> None:
    rows = predictions([0] * 60 + [0, 1] * 30)
    figures = groups_of(rows, ["2"] * 60 + ["4"] * 60)["2"]["arms"]["fedavg"]
    assert figures["auc"] is None
    assert figures["sensitivity"] is None
    expected = float((rows.probabilities[:60].argmax(axis=1) != 1).mean())
    assert figures["specificity"]["value"] == pytest.approx(expected)


def test_arms_over_different_rows_are_refused() -> None:
    with pytest.raises(RunError, match="differ"):
        groups_of(predictions([0, 1] * 20), ["a"] * 40, one=predictions([0, 1] * 20), two=predictions([1, 0] * 20))
