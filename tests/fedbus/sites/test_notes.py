"""What check and a comparison note about a dataset and its split."""

import json

import numpy as np
import pytest
from PIL import Image

from fedbus.datasets.manifest import Row
from fedbus.reports.comparison.summary import cautions
from fedbus.sites.groups import Pair
from fedbus.sites.inspect_dataset import inspect_dataset
from fedbus.sites.notes import dataset_notes, split_notes
from fedbus.sites.site import site_notes
from fedbus.sites.split import SplitRow, SplitTable
from fedbus.sites.split_dataset import GroupedRows, group_dataset
from tests.archives import make_image, make_labels_csv, write_table
from tests.report_sample import sample_results

CLASSES = ("benign", "malignant")


def grouped(patients, pairs=(), labels=None):
    rows = [
        Row(f"{i}.png", label, patient, str(i))
        for i, (patient, label) in enumerate(zip(patients, labels or CLASSES * len(patients), strict=False))
    ]
    return group_dataset("north", rows, np.arange(32 * len(rows), dtype=np.uint8).reshape(-1, 32), pairs)


def split_of(*counts):
    """A split with, for each (split, label, images, patients), that many."""
    rows = [
        SplitRow(
            0, f"{split}-{label}-{i}.png", label, f"p{label}{i % patients}", f"{split}-{label}-{i % patients}", split
        )
        for split, label, images, patients in counts
        for i in range(images)
    ]
    return SplitTable("north", tuple(rows))


def test_a_dataset_without_patients_is_noted():
    assert dataset_notes(grouped([None] * 6), []) == [
        "no patient is known, so images of one patient may be in both training and test: only near-duplicates are kept "
        "together"
    ]
    assert dataset_notes(grouped([None, None, "a", "b", None, None]), []) == []


@pytest.mark.parametrize(("images", "noted"), [(3, False), (4, True), (9, True)])
def test_a_patient_with_more_than_a_third_of_the_images_is_noted(images, noted):
    patients = ["Q"] * images + [f"p{i}" for i in range(9 - images)]
    expected = [f"patient Q has {images} of 9 images, more than a third"] if noted else []
    assert dataset_notes(grouped(patients), []) == expected


def test_a_group_of_near_duplicates_with_more_than_a_third_of_the_images_is_noted():
    pairs = [Pair(i, i + 2, 3) for i in range(5)]
    assert dataset_notes(grouped([*"abcdefghi", "j"], pairs), []) == [
        "one group of patients and near-duplicates that must stay together has 4 of 10 images, more than a third, for "
        "example 0.png"
    ]


def test_duplicates_under_two_labels_are_noted():
    (note,) = dataset_notes(grouped([*"abcdefghi"]), [Pair(0, 2, 3), Pair(1, 2, 3), Pair(4, 7, 0)])
    assert note == (
        "2 pair(s) of duplicates under two labels, of which identical images are left out: 1.png and 2.png, "
        "4.png and 7.png"
    )


def test_rows_that_are_left_out_count_for_nothing():
    dataset = grouped(["Q"] * 4 + [*"abcdef"])
    kept = GroupedRows(dataset.site, dataset.rows, dataset.groups, {0: "same image under another label"})
    assert dataset_notes(kept, []) == []


@pytest.mark.parametrize(
    ("images", "patients", "noted"),
    [(10, 5, ""), (9, 9, "benign 9 of 9 patient(s)"), (30, 4, "benign 30 of 4 patient(s)")],
)
def test_few_images_or_patients_of_a_class_are_noted(images, patients, noted):
    for split in ("test", "validation"):
        found = split_notes(split_of((split, "benign", images, patients), (split, "malignant", 20, 20)))
        assert len(found) == bool(noted)
        assert all(note.startswith(f"few {split} images") and note.endswith(noted) for note in found)
    assert split_notes(split_of(("train", "benign", 2, 1))) == []


def make_marked(root):
    """Patients under another header, in two spellings, and mostly NA; one image of few greys; a column not read."""
    generator = np.random.default_rng(5)
    root.mkdir()
    rows = []
    for i in range(80):
        make_image(generator).save(root / f"{i}.png")
        patient = ("0007", "7", "NA", "NA")[i] if i < 4 else f"P{i // 2}" if i < 50 else "Q"
        rows.append((f"{i}.png", CLASSES[i % 2], patient, 50 + i))
    Image.new("L", (48, 40)).save(root / "4.png")
    write_table(root / "labels.csv", ("file", "label", "PatientID", "age"), rows, delimiter="\t")
    return root


def test_check_and_a_comparison_note_the_same(prepare, tmp_path):
    root = make_marked(tmp_path / "marked")

    checked = inspect_dataset("labels-csv", root, "north", 20).notes
    prepare({"north": ("labels-csv", root)}, folds=5, near_bits=20)
    noted = json.loads((tmp_path / "out" / "sites.json").read_text(encoding="utf-8"))["north"]["notes"]

    assert list(checked) == noted
    expected = (
        "columns that are not read: age", "differ only in form (0007 and 7)", "2 rows name no patient ('NA' 2)",
        "4.png",
        "patient Q has 30 of 80 images", "few test images",
    )  # fmt: skip
    for words in expected:
        assert any(words in note for note in noted), words
    assert site_notes(tmp_path / "out") == [f"north: {note}" for note in noted]
    results = sample_results()
    results["sites"]["BUSI"]["notes"] = noted
    careful = cautions(results)
    assert all(f"BUSI: {note}." in careful for note in noted)


def test_check_names_the_folds_that_a_comparison_needs(tmp_path):
    root = make_labels_csv(tmp_path, {"benign": 6, "malignant": 6})  # two images of each of three patients
    found = inspect_dataset("labels-csv", root, "north", 20)
    assert found.usable
    assert found.notes[0].startswith("the default, folds = 5, is too many: use --set folds=3 (")
    assert found.folds == 3
