"""Splits that leak: by image, or by image after over-sampling; C's test rows are set aside first."""

from collections import Counter

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError, SplitError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.leaky_split import check_split, leak_splits
from fedbus.sites.split import HELD_OUT, SPLITS, assign_splits

COUNTS = {"benign": 300, "malignant": 150, "normal": 60}


def settings_of(**changes: object) -> Settings:
    return build_settings({"split": "images"} | changes, "the tests")


def rows_of(seed: int = 0, size: int = 3) -> tuple[list[str], list[str]]:
    """Labels and groups of `COUNTS` rows, shuffled; a group has `size` images of one class."""
    labels = [name for name, count in COUNTS.items() for _ in range(count)]
    groups = [f"{name}-{i // size}" for name, count in COUNTS.items() for i in range(count)]
    order = np.random.default_rng(seed).permutation(len(labels))
    return [labels[i] for i in order], [groups[i] for i in order]


def by_group(labels: list[str], groups: list[str], settings: Settings) -> list[str]:
    return assign_splits(
        "north", labels, groups, folds=settings.folds, fold=settings.fold,
        validation_fraction=settings.validation_fraction, seed=settings.split_seed,
    )  # fmt: skip


def leaked(settings: Settings, seed: int = 0) -> tuple[list[str], list[str], list[str], list[int], list[str]]:
    labels, groups = rows_of(seed)
    honest = by_group(labels, groups, settings)
    return (labels, groups, honest, *leak_splits("north", labels, honest, settings))


@pytest.mark.parametrize("split", ["images", "balanced-images"])
@pytest.mark.parametrize("fold", [0, 3])
def test_the_test_rows_of_the_split_by_group_are_held_out_once_and_are_in_no_other_split(split, fold):
    _, groups, honest, rows, splits = leaked(settings_of(split=split, fold=fold))
    held = [row for row, split in zip(rows, splits, strict=True) if split == HELD_OUT]
    assert held == [row for row, split in enumerate(honest) if split == "test"]
    others = [row for row, split in zip(rows, splits, strict=True) if split != HELD_OUT]
    assert not {groups[row] for row in held} & {groups[row] for row in others}


def test_split_by_image_has_every_row_once_and_splits_groups():
    _, groups, _, rows, splits = leaked(settings_of())
    assert rows == list(range(len(groups)))
    at = {split: {groups[row] for row, p in zip(rows, splits, strict=True) if p == split} for split in SPLITS}
    assert len(at["test"] & at["train"]) > len(at["test"]) / 2


def test_splits_have_the_requested_sizes_and_each_class_its_share():
    labels, _, honest, rows, splits = leaked(settings_of(folds=4, **{"validation-fraction": 0.2}))
    rest = sum(split != "test" for split in honest)
    count = Counter(splits)
    expected = {"test": rest / 4, "validation": rest * 3 / 4 / 5, "train": rest * 3 / 4 * 4 / 5}
    assert {split: count[split] for split in SPLITS} == pytest.approx(expected, abs=3)
    for name in CLASSES:
        inside = sum(p == "test" and labels[row] == name for row, p in zip(rows, splits, strict=True))
        known = sum(p != HELD_OUT and labels[row] == name for row, p in zip(rows, splits, strict=True))
        assert inside == pytest.approx(known / 4, abs=1.5)


def test_over_sampling_first_balances_the_classes_and_puts_one_image_in_several_splits():
    labels, _, honest, rows, splits = leaked(settings_of(split="balanced-images"))
    entries = [(row, split) for row, split in zip(rows, splits, strict=True) if split != HELD_OUT]
    of_class = Counter(labels[row] for row, _ in entries)
    assert set(of_class.values()) == {sum(p != "test" and x == "benign" for p, x in zip(honest, labels, strict=True))}
    assert {row for row, _ in entries} == {row for row, split in enumerate(honest) if split != "test"}
    at = {split: [row for row, p in entries if p == split] for split in SPLITS}
    assert rows == sorted(rows)
    for split in SPLITS:  # each split is balanced except for chance
        shares = Counter(labels[row] for row in at[split])
        assert max(shares.values()) - min(shares.values()) <= 3
    rare = {row for row in at["test"] if labels[row] == "normal"}
    assert len(rare & set(at["train"])) > 0.9 * len(rare)  # five entries per image: few are in only one split
    common = {row for row in at["test"] if labels[row] == "benign"}
    assert not common & {*at["train"], *at["validation"]}  # the largest class is not repeated


@pytest.mark.parametrize("split", ["images", "balanced-images"])
def test_the_same_settings_give_the_same_rows_and_another_seed_or_fold_gives_others(split):
    first = leaked(settings_of(split=split))[3:]
    assert leaked(settings_of(split=split))[3:] == first
    assert leaked(settings_of(split=split, **{"split-seed": 1}))[3:] != first
    assert leaked(settings_of(split=split, fold=1))[3:] != first


def test_images_do_not_depend_on_how_they_are_balanced():
    one, other = (leaked(settings_of(sampler=sampler))[3:] for sampler in ("ros", "smote"))
    assert one == other


def test_a_class_with_too_few_remaining_images_is_named():
    labels = ["benign"] * 30 + ["malignant"] * 30 + ["normal"] * 3
    honest = by_group(labels, [f"g{i}" for i in range(63)], settings_of(folds=3))
    assert honest[60:].count("test") == 1
    with pytest.raises(SplitError, match=r"north: split = images .* in three \(.*'normal': 2.*split=groups"):
        leak_splits("north", labels, honest, settings_of(folds=3))


@pytest.mark.parametrize("sampler", ["smote", "adasyn", "rus", "class-weights"])
def test_over_sampling_twice_in_different_ways_is_refused_and_names_both_keys(sampler):
    with pytest.raises(SettingsError, match=rf"balanced-images.*sampler = \"{sampler}\""):
        check_split(settings_of(split="balanced-images", sampler=sampler))


@pytest.mark.parametrize(
    ("split", "sampler"), [("balanced-images", "ros"), ("balanced-images", "none"), ("images", "smote")]
)
def test_samplers_that_fit_the_split_are_accepted(split, sampler):
    check_split(settings_of(split=split, sampler=sampler))
