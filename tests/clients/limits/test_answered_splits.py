"""Two studies of one site can't be compared image by image."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from clients.limits.answered_splits import check_split, smallest_difference
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Row
from fedbus.settings.load import build_settings
from fedbus.sites.split import SPLITS, SplitRow, SplitTable
from fedbus.sites.split_dataset import GroupedRows, split_dataset

DEFAULTS = Limits.model_validate({})


def table(places: str) -> SplitTable:
    """One character per image: its split (t, v, e; a dot for none); the classes take turns."""
    names = dict(zip("tve", SPLITS, strict=True))
    rows = [
        SplitRow(i, f"{i}.png", CLASSES[i % 3], "", f"g{i}", names[place])
        for i, place in enumerate(places)
        if place != "."
    ]
    return SplitTable("ward", tuple(rows))


def by_sets(left: SplitTable, right: SplitTable) -> int:
    """The same by sets of paths, one pair of sets after another."""
    unions = [set(chosen) for count in (1, 2, 3) for chosen in combinations(SPLITS, count)]
    sizes = set()
    for label in CLASSES:
        for first in unions:
            for second in unions:
                here = {row.path for row in left.rows if row.label == label and row.split in first}
                there = {row.path for row in right.rows if row.label == label and row.split in second}
                sizes.add(len(here ^ there))
    return min(sizes - {0}, default=0)


@pytest.mark.parametrize("seed", range(12))
def test_the_smallest_difference_is_that_of_all_sets(seed):
    generator = np.random.default_rng(seed)
    left = generator.choice(list("ttttve."), 90)
    right = left.copy()
    changed = generator.choice(90, int(generator.integers(0, 90)), replace=False)
    right[changed] = generator.choice(list("ttttve."), len(changed))
    pair = table("".join(left)), table("".join(right))
    assert smallest_difference(*pair) == by_sets(*pair)


def dataset(images: int = 240) -> GroupedRows:
    rows = [Row(f"{i}.png", CLASSES[i % 3], f"p{i // 2}", str(i)) for i in range(images)]
    return GroupedRows("ward", rows, [f"p{i // 2}" for i in range(images)], {})


def answer(folder: Path, limits: Limits = DEFAULTS, images: int = 240, **changes: object) -> None:
    split = split_dataset(dataset(images), build_settings({"near-bits": 20} | changes, "the hub"))
    split.write(folder / "split.csv")
    check_split(split, folder / "split.csv", folder / "answered", limits)


@pytest.mark.parametrize(
    ("first", "second"), [({}, {"limit": 239}), ({"limit": 200}, {"limit": 198}), ({"limit": 238}, {})]
)
def test_a_study_that_leaves_out_one_patient_of_an_earlier_one_is_refused(first, second, tmp_path):
    answer(tmp_path, **first)
    with pytest.raises(RefusedError, match=r"differs from that of an earlier run by fewer images than .* = 3"):
        answer(tmp_path, **second)
    assert len(list((tmp_path / "answered").iterdir())) == 1
    answer(tmp_path, **first)  # the earlier one is still answered


def test_images_that_were_added_can_not_be_singled_out(tmp_path):
    answer(tmp_path, images=240)
    with pytest.raises(RefusedError) as refused:
        answer(tmp_path, images=242)
    record = next((tmp_path / "answered").iterdir())
    assert f"delete {record}" in refused.value.remedy
    assert str(tmp_path) not in refused.value.problem, "the problem is sent to the hub"
    record.unlink()
    answer(tmp_path, images=242)


def test_all_folds_are_answered(tmp_path):
    for fold in range(5):
        answer(tmp_path, fold=fold)
    assert len(list((tmp_path / "answered").iterdir())) == 5


def test_the_number_of_splits_is_limited(tmp_path):
    strict = DEFAULTS.model_copy(update={"max_splits": 3})
    for seed in range(3):
        answer(tmp_path, strict, **{"split-seed": seed})
    with pytest.raises(RefusedError, match="max-splits = 3 different splits"):
        answer(tmp_path, strict, **{"split-seed": 3})
    for seed in range(3):
        answer(tmp_path, strict, **{"split-seed": seed})
