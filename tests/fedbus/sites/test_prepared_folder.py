"""The folder of prepared sites: opened again, also one of version 0.1, and refused if it was changed."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import FedbusError, RunError
from fedbus.sites.site import open_site, read_facts
from fedbus.sites.split import SPLITS


def test_open_site_returns_what_prepare_sites_returned(prepare, north, tmp_path):
    shutil.copy(north / "Benign" / "3.png", north / "Malignant" / "copy.png")
    prepared = prepare({"north": ("class-folders", north)})["north"]
    opened = open_site(tmp_path / "out", "north")
    for name in ("pixels", "labels", "groups", "paths"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(prepared, name))
    for split in SPLITS:
        np.testing.assert_array_equal(opened.splits[split], prepared.splits[split])
    with (tmp_path / "out/splits/north.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = int(np.flatnonzero(opened.paths == line["path"])[0])
            assert CLASSES[opened.labels[row]] == line["label"]
            assert opened.groups[row] == line["group"]
            assert row in opened.splits[line["split"]]


def as_version_0_1(out: Path) -> None:
    """Rewrite a run folder as version 0.1 wrote it: positions and `parts` in sites.json, a column `part`."""
    facts = json.loads((out / "sites.json").read_text(encoding="utf-8"))
    for name, site in facts.items():
        path = out / "splits" / f"{name}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        columns = ("path", "label", "patient", "group", "part")
        old = [
            ",".join(columns),
            *(",".join((line | {"part": line["split"]})[key] for key in columns) for line in lines),
        ]
        path.write_text("\n".join([*old, ""]), encoding="utf-8")
        site["parts"], site["rows"] = site.pop("splits"), [int(line["row"]) for line in lines]
        site["split_digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
        for each in site["dropped"]:
            each["reason"] = each["reason"].replace("image", "picture")
    (out / "sites.json").write_text(json.dumps(facts), encoding="utf-8")


def test_folders_of_version_0_1_open_as_the_same_site(prepare, north, tmp_path):
    shutil.copy(north / "Benign" / "3.png", north / "Malignant" / "copy.png")  # drops rows
    new = prepare({"north": ("class-folders", north)})["north"]
    facts = read_facts(tmp_path / "out")["north"]
    as_version_0_1(tmp_path / "out")
    old = open_site(tmp_path / "out", "north")
    for name in ("pixels", "labels", "groups", "paths"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    for split in SPLITS:
        np.testing.assert_array_equal(old.splits[split], new.splits[split])
    old_facts = read_facts(tmp_path / "out")["north"]
    changed = {"split_digest", "dropped"}
    assert {key: old_facts[key] for key in facts.keys() - changed} == {
        key: facts[key] for key in facts.keys() - changed
    }
    assert [each["path"] for each in old_facts["dropped"]] == [each["path"] for each in facts["dropped"]]

    edit(tmp_path / "out/splits/north.csv", "test\n", "train\n")
    with pytest.raises(RunError, match="was changed"):
        open_site(tmp_path / "out", "north")


def test_folders_of_version_0_1_are_resumed_with_the_same_rows(prepare, north, tmp_path):
    shutil.copy(north / "Benign" / "3.png", north / "Malignant" / "copy.png")  # drops rows
    sites = {"north": ("class-folders", north)}
    prepare(sites)
    before = (tmp_path / "out/sites.json").read_bytes()
    as_version_0_1(tmp_path / "out")
    prepare(sites)
    assert (tmp_path / "out/sites.json").read_bytes() == before


def test_folders_of_version_0_1_are_not_resumed_with_other_rows(prepare, north, tmp_path):
    sites = {"north": ("class-folders", north)}
    prepare(sites)
    as_version_0_1(tmp_path / "out")
    with pytest.raises(RunError, match="changed since"):
        prepare(sites, split_seed=5)


def test_the_facts_do_not_list_the_rows(prepare, north, tmp_path):
    prepare({"north": ("class-folders", north)})
    facts = json.loads((tmp_path / "out/sites.json").read_text(encoding="utf-8"))["north"]
    assert not [key for key, fact in facts.items() if isinstance(fact, list) and len(fact) > 3]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: (out / "sites.json").unlink(),
        lambda out: (out / "sites.json").write_text("{"),
        lambda out: (out / "sites.json").write_text("{}"),
        lambda out: (out / "splits/north.csv").unlink(),
        lambda out: shutil.rmtree(out.parent / "cache"),
        lambda out: edit(out / "splits/north.csv", "test\n", "train\n"),
        lambda out: edit(out / "splits/north.csv", "Benign/0.png", "Benign/00.png"),
    ],
    ids=["no facts", "broken facts", "other facts", "no split", "no pixels", "leak", "renamed"],
)
def test_a_prepared_folder_that_was_changed_is_refused(prepare, north, tmp_path, spoil):
    prepare({"north": ("class-folders", north)})
    spoil(tmp_path / "out")
    with pytest.raises(FedbusError, match=r"north|sites"):
        open_site(tmp_path / "out", "north")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_site_that_was_not_prepared_is_named(prepare, north, tmp_path):
    prepare({"north": ("class-folders", north)})
    with pytest.raises(RunError, match="south"):
        open_site(tmp_path / "out", "south")
