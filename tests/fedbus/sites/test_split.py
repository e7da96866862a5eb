"""Splits: no group in two of them, every class in each, folds that partition, and a complete file."""

import csv
import hashlib
import io
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import SplitError
from fedbus.sites.split import HELD_OUT, SPLITS, SplitRow, SplitTable, assign_splits, read_split

SETTINGS = {"folds": 5, "fold": 0, "validation_fraction": 0.15, "seed": 0}


def dataset(seed: int, groups: int = 60, classes: int = 3) -> tuple[list[str], list[str]]:
    """Labels and groups: groups of one to five rows, now and then of two classes, rows shuffled."""
    generator = np.random.default_rng(seed)
    labels, names = [], []
    for group in range(groups):
        label = group % classes if group < 12 * classes else int(generator.choice(classes))
        for _ in range(int(generator.integers(1, 6))):
            labels.append(CLASSES[label if generator.random() < 0.95 else int(generator.integers(classes))])
            names.append(f"g{group:04d}")
    order = generator.permutation(len(labels))
    return [labels[i] for i in order], [names[i] for i in order]


def split_of(seed: int = 0) -> SplitTable:
    labels, groups = dataset(seed)
    splits = assign_splits("north", labels, groups, **SETTINGS)
    rows = [
        SplitRow(2 * i, f"a, b/{i} “x”.png", label, "" if i % 3 else f"p{i}", group, split)
        for i, (label, group, split) in enumerate(zip(labels, groups, splits, strict=True))
    ]
    return SplitTable("north", tuple(rows))


@pytest.mark.parametrize("seed", range(25))
def test_no_group_is_in_two_splits_and_every_class_is_in_all(seed):
    generator = np.random.default_rng(1000 + seed)
    classes = int(generator.integers(2, 4))
    labels, groups = dataset(seed, groups=int(generator.integers(40, 90)), classes=classes)
    settings = {
        "folds": int(generator.integers(2, 7)),
        "validation_fraction": float(generator.choice([0.1, 0.15, 0.25, 0.5])),
        "seed": seed,
    }
    splits = assign_splits("north", labels, groups, fold=int(generator.integers(settings["folds"])), **settings)
    parts_of: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        parts_of.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in parts_of.values())
    present = {(label, split) for label, split in zip(labels, splits, strict=True)}
    assert present == {(label, split) for label in set(labels) for split in SPLITS}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_partition_the_rows(folds):
    labels, groups = dataset(3)
    tests = [
        [
            split == "test"
            for split in assign_splits("north", labels, groups, **SETTINGS | {"folds": folds, "fold": fold})
        ]
        for fold in range(folds)
    ]
    np.testing.assert_array_equal(np.sum(tests, axis=0), 1)


def test_splits_have_about_the_requested_size():
    generator = np.random.default_rng(0)
    labels = generator.choice(CLASSES, 1000, p=[0.6, 0.3, 0.1]).tolist()
    splits = assign_splits("north", labels, [f"g{i}" for i in range(1000)], **SETTINGS | {"validation_fraction": 0.2})
    count = {split: splits.count(split) for split in SPLITS}
    assert count == pytest.approx({"test": 200, "validation": 160, "train": 640}, abs=3)
    for name in CLASSES:  # stratified: a class has the same share in each split as in the whole
        share = labels.count(name) / 1000
        for split in SPLITS:
            inside = sum(p == split and x == name for p, x in zip(splits, labels, strict=True))
            assert inside / count[split] == pytest.approx(share, abs=0.015)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    split_of().write(tmp_path / "a.csv")
    split_of().write(tmp_path / "b.csv")
    content = (tmp_path / "a.csv").read_bytes()
    assert content == (tmp_path / "b.csv").read_bytes()
    assert split_of().digest == hashlib.sha256(content).hexdigest()


def test_seed_site_and_fold_change_the_split():
    labels, groups = dataset(0)
    first = assign_splits("north", labels, groups, **SETTINGS)
    assert first != assign_splits("south", labels, groups, **SETTINGS)
    assert first != assign_splits("north", labels, groups, **SETTINGS | {"seed": 1})
    assert first != assign_splits("north", labels, groups, **SETTINGS | {"fold": 1})


def test_the_file_has_exactly_these_columns_and_reads_back(tmp_path):
    split = split_of()
    split.write(tmp_path / "north.csv")
    with (tmp_path / "north.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["row", "path", "label", "patient", "group", "split"]
    assert lines[1:] == [[str(r.row), r.path, r.label, r.patient, r.group, r.split] for r in split.rows]
    assert read_split("north", tmp_path / "north.csv") == split


def test_counts_are_those_of_the_file():
    split = split_of()
    found = Counter((line["split"], line["label"]) for line in csv.DictReader(io.StringIO(split.text)))
    assert split.counts == {split: {name: found[split, name] for name in CLASSES} for split in SPLITS}


def test_held_out_and_repeated_rows_read_back_and_are_counted_each_time(tmp_path):
    plain = split_of()
    rows = [replace(row, split=HELD_OUT) if row.split == "test" and i % 2 else row for i, row in enumerate(plain.rows)]
    again = next(row for row in plain.rows if row.split == "train")
    split = SplitTable("north", (*rows, again, replace(again, split="test")))
    split.write(tmp_path / "north.csv")
    assert read_split("north", tmp_path / "north.csv") == split
    assert (plain.splits, split.splits) == (SPLITS, (*SPLITS, HELD_OUT))
    found = Counter((line["split"], line["label"]) for line in csv.DictReader(io.StringIO(split.text)))
    assert split.counts == {split: {name: found[split, name] for name in CLASSES} for split in (*SPLITS, HELD_OUT)}
    assert sum(split.counts["train"].values()) == sum(plain.counts["train"].values()) + 1


@pytest.mark.parametrize("seed", range(20))
def test_classes_with_few_groups_are_split_or_refused_but_never_lost(seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(3, 7, 3)
    labels = [CLASSES[c] for c in range(3) for _ in range(counts[c])]
    groups = [f"g{i}" for i in range(len(labels))]
    with suppress(SplitError):
        splits = assign_splits("north", labels, groups, **SETTINGS | {"seed": seed})
        assert len({(label, split) for label, split in zip(labels, splits, strict=True)}) == 9


def test_a_class_with_too_few_groups_is_named():
    labels = ["benign"] * 20 + ["malignant"] * 20 + ["normal"] * 6
    groups = [f"g{i}" for i in range(40)] + ["n1"] * 3 + ["n2"] * 3
    with pytest.raises(SplitError, match=r"north: normal has only 2 group"):
        assign_splits("north", labels, groups, **SETTINGS)


def test_groups_that_cannot_give_every_split_each_class_are_refused():
    labels = ["benign"] * 30 + ["malignant"] * 3
    groups = [f"b{i}" for i in range(30)] + ["m1", "m2", "m3"]
    refused = 0
    for fold in range(5):  # three groups can't fill five test splits
        try:
            assign_splits("north", labels, groups, **SETTINGS | {"fold": fold})
        except SplitError as error:
            refused += "malignant has 3 groups" in error.problem and "folds=3" in error.remedy
    assert refused >= 2


def test_few_patients_get_a_larger_validation_split_rather_than_a_refusal():
    labels = [name for name in CLASSES for _ in range(3)]
    splits = assign_splits("north", labels, [f"g{i}" for i in range(9)], **SETTINGS | {"folds": 3})
    assert sorted(zip(labels, splits, strict=True)) == sorted((name, split) for name in CLASSES for split in SPLITS)


@pytest.mark.parametrize(
    "content",
    [
        b"row,path,label,patient,group\n0,a,benign,,g1\n",
        b"row,path,label,patient,group,split,more\n0,a,benign,,g1,train,x\n",
        b"row,path,label,patient,group,split\n0,a,benign,,g1,training\n",
        b"row,path,label,patient,group,split\n0,a,benine,,g1,train\n",
        b"row,path,label,patient,group,split\n0,a,benign,,g1,train,surplus\n",
        b"row,path,label,patient,group,split\n0,a,benign\n",
        b"row,path,label,patient,group,split\nfirst,a,benign,,g1,train\n",
        b"path,label,patient,group,split\na,benign,,g1,train\n",
        b"\xff\xfe\x00\x01",
        b"row,path,label,patient,group,split\n\x00,benign,,g1,train,\n",
        b"",
    ],
)
def test_files_that_are_not_splits_are_refused(tmp_path, content):
    (tmp_path / "north.csv").write_bytes(content)
    with pytest.raises(SplitError, match=r"north\.csv"):
        read_split("north", tmp_path / "north.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SplitError, match=r"none\.csv"):
        read_split("north", tmp_path / "none.csv")


@pytest.mark.parametrize("folds", range(2, 11))
@pytest.mark.parametrize("patients", range(3, 7))
@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_few_patients_with_several_images_each_are_split_or_refused(folds, patients, images):
    named = [(name, f"{name}{p}") for name in CLASSES[:2] for p in range(patients) for _ in range(images)]
    labels, groups = [label for label, _ in named], [group for _, group in named]
    split = 0
    for fold in range(folds):
        with suppress(SplitError):
            splits = assign_splits("north", labels, groups, **SETTINGS | {"folds": folds, "fold": fold})
            assert {(label, s) for label, s in zip(labels, splits, strict=True)} == {
                (label, s) for label in set(labels) for s in SPLITS
            }
            assert len(set(zip(groups, splits, strict=True))) == 2 * patients
            split += 1
    assert split == folds or folds == 2 or folds > 3, "three patients of each class fit three folds"


@pytest.mark.parametrize("seed", range(40))
def test_patients_with_images_of_several_classes_are_split_or_refused(seed):
    generator = np.random.default_rng(seed)
    groups = [f"g{i}" for i in generator.integers(0, int(generator.integers(1, 8)), 24)]
    labels = [str(name) for name in generator.choice(CLASSES, 24)]
    with suppress(SplitError):
        folds = int(generator.integers(2, 12))
        splits = assign_splits("north", labels, groups, **SETTINGS | {"folds": folds, "seed": seed})
        assert set(splits) == set(SPLITS)
        assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
