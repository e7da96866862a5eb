"""Sites whose split leaks on purpose: four splits, frozen and opened again; the split by group is unchanged."""

import csv
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.evaluation.predict import predict_split
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site, open_site, read_facts
from fedbus.sites.split import HELD_OUT, SPLITS, assign_splits, read_split
from fedbus.training.rows import site_rows
from tests.archives import make_class_folders, make_labels_csv

LEAKY = ("images", "balanced-images")
COUNTS = {"benign": 40, "malignant": 30, "normal": 16}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One site that names patients, two images each, and one that has a copy of an image."""
    root = tmp_path_factory.mktemp("datasets")
    south = make_class_folders(root / "south", {"benign": 20, "malignant": 16}, seed=2)
    shutil.copy(south / "Benign" / "3.png", south / "Benign" / "copy.png")
    sites = {
        "north": {"reader": "labels-csv", "path": str(make_labels_csv(root / "north", COUNTS, seed=1))},
        "south": {"reader": "class-folders", "path": str(south)},
    }
    return build_settings({"sites": sites, "image-size": 32, "folds": 3, "cache": str(root / "cache")}, "the tests")


@pytest.fixture(scope="module")
def prepared(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Site]]]:
    """The folder and the sites of every split."""
    found = {}
    for split in ("groups", *LEAKY):
        out = tmp_path_factory.mktemp(split)
        found[split] = out, prepare_sites(settings.model_copy(update={"split": split}), out)
    return found


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def groups_in(site: Site, *splits: str) -> set[str]:
    return {str(site.groups[row]) for split in splits for row in site.splits[split]}


@pytest.mark.parametrize("name", ["north", "south"])
def test_the_split_by_group_is_that_of_assign_splits_byte_for_byte(settings, prepared, name):
    out, sites = prepared["groups"]
    lines = rows_in(out / "splits" / f"{name}.csv")
    splits = assign_splits(
        name, [line["label"] for line in lines], [line["group"] for line in lines],
        folds=3, fold=0, validation_fraction=settings.validation_fraction, seed=0,
    )  # fmt: skip
    text = "row,path,label,patient,group,split\n" + "".join(
        f"{line['row']},{line['path']},{line['label']},{line['patient']},{line['group']},{split}\n"
        for line, split in zip(lines, splits, strict=True)
    )
    assert read_facts(out)[name]["split_digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert set(sites[name].splits) == set(read_facts(out)[name]["splits"]) == set(SPLITS)


@pytest.mark.parametrize("split", LEAKY)
def test_held_out_rows_are_the_test_rows_of_the_split_by_group(prepared, split):
    for name, site in prepared[split][1].items():
        honest = prepared["groups"][1][name]
        np.testing.assert_array_equal(site.splits[HELD_OUT], honest.splits["test"])
        np.testing.assert_array_equal(site.groups, honest.groups)
        assert not groups_in(site, HELD_OUT) & groups_in(site, *SPLITS)


def test_split_by_image_splits_patients_but_no_image(prepared):
    site = prepared["images"][1]["north"]
    rows = np.concatenate(list(site.splits.values()))
    assert sorted(rows.tolist()) == list(range(sum(COUNTS.values())))
    assert groups_in(site, "test") & groups_in(site, "train")


def test_over_sampled_rows_repeat_in_and_across_splits_with_their_own_label(prepared):
    out, sites = prepared["balanced-images"]
    site, facts = sites["north"], read_facts(out)["north"]
    train = site.splits["train"]
    assert len(np.unique(train)) < len(train)
    assert set(site.splits["test"].tolist()) & set(train.tolist())
    assert facts["images"] == sum(COUNTS.values())
    for split, rows in site.splits.items():
        counts = np.bincount(site.labels[rows], minlength=len(CLASSES)).tolist()
        assert facts["splits"][split] == dict(zip(CLASSES, counts, strict=True))
        for row in rows:
            assert CLASSES[site.labels[row]] == Path(str(site.paths[row])).name.split("-")[0]


@pytest.mark.parametrize("split", LEAKY)
def test_the_file_opens_as_the_same_site_and_lists_every_row(prepared, split):
    out, sites = prepared[split]
    lines = Counter((line["path"], line["split"]) for line in rows_in(out / "splits/north.csv"))
    site = open_site(out, "north")
    assert lines == Counter((str(site.paths[row]), split) for split, rows in site.splits.items() for row in rows)
    for split, rows in sites["north"].splits.items():
        np.testing.assert_array_equal(site.splits[split], rows)
    assert read_split("north", out / "splits/north.csv").splits == (*SPLITS, HELD_OUT)


@pytest.mark.parametrize("split", LEAKY)
def test_preparing_again_gives_the_same_files(settings, prepared, split, tmp_path):
    out, _ = prepared[split]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    leaky = settings.model_copy(update={"split": split})
    prepare_sites(leaky, out)
    prepare_sites(leaky, tmp_path)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for path, content in before.items():
        assert (tmp_path / path.relative_to(out)).read_bytes() == content


def test_a_limit_holds_out_the_rows_that_the_split_by_group_tests(settings, tmp_path):
    limited = settings.model_copy(update={"limit": 50})
    honest = prepare_sites(limited, tmp_path / "groups", ["north"])["north"]
    site = prepare_sites(limited.model_copy(update={"split": "images"}), tmp_path / "images", ["north"])["north"]
    np.testing.assert_array_equal(site.splits[HELD_OUT], honest.splits["test"])
    assert 40 < sum(len(rows) for rows in site.splits.values()) <= 50


def test_a_sampler_that_does_not_fit_the_split_is_refused_before_anything_is_read(settings, tmp_path):
    wrong = settings.model_copy(update={"split": "balanced-images", "sampler": "smote", "cache": tmp_path / "cache"})
    with pytest.raises(SettingsError, match="sampler"):
        prepare_sites(wrong, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sampler", ["ros", "none"])
def test_training_uses_the_repeated_rows_and_balances_the_rest(settings, prepared, sampler):
    site = prepared["balanced-images"][1]["north"]
    rows = site_rows(site, settings.model_copy(update={"sampler": sampler}), 0, torch.device("cpu"))
    before, after = Counter(site.splits["train"].tolist()), Counter(rows.index.tolist())
    assert before <= after
    assert set(before) == set(after)
    counts = Counter(rows.labels.tolist())
    assert len(set(counts.values())) == 1 if sampler == "ros" else after == before


def test_repeated_rows_are_predicted_each_time_in_their_true_group(settings, prepared):
    site = prepared["balanced-images"][1]["north"]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    predictions = predict_split(model, site, "test", settings)
    rows = site.splits["test"]
    assert predictions.paths.tolist() == site.paths[rows].tolist()
    assert predictions.groups.tolist() == [f"north/{group}" for group in site.groups[rows]]
    first = {path: i for i, path in reversed(list(enumerate(predictions.paths.tolist())))}
    again = [first[path] for path in predictions.paths.tolist()]
    np.testing.assert_allclose(predictions.probabilities, predictions.probabilities[again], atol=1e-6)
