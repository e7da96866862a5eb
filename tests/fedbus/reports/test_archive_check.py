"""`fedbus check`: what it finds, what it prints, what it writes."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedbus.errors import ArchiveError, RunError, SettingsError
from fedbus.reports.archive_check import check_sites, render
from fedbus.sites.inspect_dataset import inspect_dataset
from tests.archives import (
    make_bus_bra,
    make_bus_uclm,
    make_busi,
    make_class_folders,
    make_image,
    make_labels_csv,
    write_table,
)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def printed(console):
    return console.file.getvalue()


def shown(inspection, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(render(inspection))
    return printed(console)


def test_a_usable_dataset(tmp_path):
    found = inspect_dataset(
        "bus-uclm", make_bus_uclm(tmp_path, {"benign": 12, "malignant": 12, "normal": 12}), "south", 20
    )

    assert found.usable
    assert found.unsplittable is None
    assert found.counts == {"benign": 12, "malignant": 12, "normal": 12}
    assert found.census == {"benign": 174, "malignant": 90, "normal": 419}
    assert found.patients == 18
    assert found.images_per_patient == (2, 2)
    assert found.widths == (48, 48, 48)
    assert found.heights == (40, 40, 40)
    assert found.modes == {"L": 36}
    assert found.duplicates == ()


def test_a_dataset_with_too_few_patients_to_split_cannot_be_used(tmp_path):
    found = inspect_dataset("bus-uclm", make_bus_uclm(tmp_path), "south", 20)
    assert not found.unreadable
    assert not found.usable
    assert "normal has only 2 group(s)" in found.unsplittable
    assert "normal has only 2 group(s)" in shown(found)
    assert found.to_json()["usable"] is False


def test_sizes_and_modes(tmp_path):
    make_class_folders(tmp_path, {"benign": 2, "malignant": 1})
    make_image(np.random.default_rng(9), (100, 30)).convert("RGBA").save(tmp_path / "Benign" / "9.png")
    found = inspect_dataset("class-folders", tmp_path, "x", 20)
    assert found.widths == (48, 48, 100)
    assert found.heights == (30, 40, 40)
    assert found.modes == {"L": 3, "RGBA": 1}
    assert found.census is None
    assert found.patients is None


def test_the_builders_make_no_near_duplicates(tmp_path):
    found = inspect_dataset("class-folders", make_class_folders(tmp_path, {"benign": 30, "normal": 30}), "x", 80)
    assert found.duplicates == ()


def test_duplicates_are_listed_by_kind_and_label(tmp_path):
    benign = make_class_folders(tmp_path) / "Benign"
    shutil.copy(benign / "0.png", benign / "copy.png")
    with Image.open(benign / "2.png") as image:  # other bytes and another mode, equal pixels
        image.convert("RGB").save(tmp_path / "Malignant" / "recoloured.png")
    pixels = np.asarray(Image.open(benign / "1.png")).copy()
    pixels[20, 20] ^= 1  # too little to move the hash, yet not the same image
    Image.fromarray(pixels).save(tmp_path / "Normal" / "retouched.png")

    found = inspect_dataset("class-folders", tmp_path, "x", 20)

    assert [(c.first, c.second) for c in found.identical_pairs] == [
        ("Benign/0.png", "Benign/copy.png"),
        ("Benign/2.png", "Malignant/recoloured.png"),
    ]
    assert [(c.first, c.second, c.bits) for c in found.near_duplicates] == [("Benign/1.png", "Normal/retouched.png", 0)]
    assert [(c.labels, c.identical) for c in found.conflicting_pairs] == [
        (("benign", "malignant"), True),
        (("benign", "normal"), False),
    ]
    assert found.usable
    assert "Duplicates under two labels: 2 pairs" in shown(found)


def test_the_threshold_decides_what_is_a_near_duplicate(tmp_path):
    root = make_class_folders(tmp_path)
    pixels = np.asarray(Image.open(root / "Benign" / "0.png")).copy()
    pixels[:20, :12] = 255 - pixels[:20, :12]
    Image.fromarray(pixels).save(root / "Benign" / "partly.png")

    (pair,) = inspect_dataset("class-folders", root, "x", 60).near_duplicates

    assert (pair.first, pair.second) == ("Benign/0.png", "Benign/partly.png")
    assert 0 < pair.bits <= 60
    assert inspect_dataset("class-folders", root, "x", pair.bits).near_duplicates == (pair,)
    assert inspect_dataset("class-folders", root, "x", pair.bits - 1).near_duplicates == ()


def test_all_unreadable_images_are_listed(tmp_path):
    benign = make_class_folders(tmp_path) / "Benign"
    (benign / "0.png").write_bytes(b"")
    (benign / "1.png").write_bytes((benign / "1.png").read_bytes()[:500])
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(benign / "2.png")

    found = inspect_dataset("class-folders", tmp_path, "x", 20)

    assert not found.usable
    assert [each.path for each in found.unreadable] == ["Benign/0.png", "Benign/1.png", "Benign/2.png"]
    assert found.unreadable[0].reason == "is an empty file"
    assert "can't be decoded" in found.unreadable[1].reason
    assert "more than 8 bits" in found.unreadable[2].reason
    assert "8-bit" in found.unreadable[2].remedy
    assert sum(found.modes.values()) == 12
    text = shown(found)
    assert "can't be used yet: 3 of 15 images can't be read" in text
    assert all(name in text for name in ("Benign/0.png", "Benign/1.png", "Benign/2.png"))


def test_a_dataset_without_a_readable_image(tmp_path):
    for path in make_class_folders(tmp_path).rglob("*.png"):
        path.write_bytes(b"")
    found = inspect_dataset("class-folders", tmp_path, "x", 20)
    assert not found.usable
    assert found.widths is None
    assert len(found.unreadable) == 15
    assert json.dumps(found.to_json(), allow_nan=False)
    assert "15 of 15 images can't be read" in shown(found)


def test_images_that_look_like_masks_are_noted(tmp_path):
    root = make_class_folders(tmp_path)
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(root / "Normal" / "outline.png")
    found = inspect_dataset("class-folders", root, "x", 20)
    assert found.notes[0] == "1 image(s) with the grey values of a mask: Normal/outline.png"
    assert found.usable


def test_progress_counts_every_image(tmp_path):
    seen, announced = [], []

    def progress(site, total):
        announced.append((site, total))
        return seen.append

    inspect_dataset("bus-bra", make_bus_bra(tmp_path), "rio", 20, progress)
    assert announced == [("rio", 11)]
    assert sum(seen) == 11


def test_json_contains_everything(tmp_path):
    root = make_busi(tmp_path)
    shutil.copy(
        root / "Dataset_BUSI_with_GT/benign/benign (1).png",
        root / "Dataset_BUSI_with_GT/normal/normal (9).png",
    )
    report = json.loads(json.dumps(inspect_dataset("busi", root, "north", 20).to_json(), allow_nan=False))
    pair = ["Dataset_BUSI_with_GT/benign/benign (1).png", "Dataset_BUSI_with_GT/normal/normal (9).png"]
    assert report["site"] == "north"
    assert report["usable"] is True
    assert report["counts"] == {"benign": 6, "malignant": 5, "normal": 5}
    assert report["published"] == {"benign": 437, "malignant": 210, "normal": 133}
    assert report["patients"] is None
    assert report["width"] == {"minimum": 48, "median": 48, "maximum": 48}
    assert report["identical_pairs"] == [pair]
    assert report["conflicting_pairs"] == [
        {"files": pair, "labels": ["benign", "normal"], "bits": 0, "identical": True}
    ]
    assert "10.1016/j.dib.2019.104863" in report["citation"]


def test_check_sites_prints_and_writes(tmp_path, console):
    roots = make_busi(tmp_path / "my busi"), make_labels_csv(tmp_path / "own", {"benign": 12, "malignant": 12})
    out = tmp_path / "new" / "found.json"

    code = check_sites([("busi", "busi", roots[0]), ("east", "labels-csv", roots[1])], out, console)

    assert code == 0
    assert [s["site"] for s in json.loads(out.read_text())["sites"]] == ["busi", "east"]
    text = printed(console)
    assert "431 missing" in text
    assert f"Next: fedbus compare \\\n    --site 'busi={roots[0]}' \\\n    --site east=labels-csv:{roots[1]}" in text
    assert str(out) in text


def test_one_bad_site_does_not_stop_the_others(tmp_path, console):
    good, bad = make_busi(tmp_path / "good"), make_bus_bra(tmp_path / "bad")
    out = tmp_path / "check.json"

    code = check_sites([("bad", "busi", bad), ("gone", "busi", tmp_path / "no"), ("busi", "busi", good)], out, console)

    assert code == 1
    reports = json.loads(out.read_text())["sites"]
    assert [r["usable"] for r in reports] == [False, False, True]
    assert "looks like bus-bra" in reports[0]["problem"]
    assert reports[0]["remedy"] == "Read it with bus-bra."
    text = printed(console)
    assert "Fix bad, gone and check again." in text
    assert f"fedbus compare --site busi={good}" in text.replace(" \\\n   ", "")
    assert "--site bad" not in text


def test_an_unreadable_image_fails_the_check(tmp_path, console):
    root = make_class_folders(tmp_path / "own")
    (root / "Benign" / "0.png").write_bytes(b"")
    assert check_sites([("own", "class-folders", root)], tmp_path / "c.json", console) == 1
    assert "fedbus compare" not in printed(console)


def test_writes_check_json_here_by_default(tmp_path, console, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_sites([("busi", "busi", make_busi(tmp_path / "b"))], None, console)
    assert json.loads((tmp_path / "check.json").read_text())["sites"][0]["site"] == "busi"


def test_a_misspelt_reader_is_refused_before_any_work(tmp_path, console):
    with pytest.raises(SettingsError, match="Did you mean busi"):
        check_sites([("ok", "busi", make_busi(tmp_path / "b")), ("x", "buzi", tmp_path)], tmp_path / "c.json", console)
    assert printed(console) == ""
    assert not (tmp_path / "c.json").exists()


def test_an_unwritable_result_leaves_nothing_behind(tmp_path, console):
    (tmp_path / "c.json").mkdir()
    with pytest.raises(RunError, match=r"c\.json could not be written"):
        check_sites([("busi", "busi", make_busi(tmp_path / "b"))], tmp_path / "c.json", console)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c.json"]


def test_names_with_brackets_are_printed_unchanged(tmp_path, console):
    root = make_class_folders(tmp_path / "[red]own[/red]")
    shutil.copy(root / "Benign" / "0.png", root / "Normal" / "[bold]0.png")
    (root / "Normal" / "[x].png").write_bytes(b"")
    check_sites([("own", "class-folders", root)], tmp_path / "c.json", console)
    assert "[red]own[/red]" in printed(console)
    assert "Normal/[bold]0.png" in printed(console)
    assert "Normal/[x].png" in printed(console)


def test_a_dataset_that_can_not_be_read_raises(tmp_path):
    with pytest.raises(ArchiveError, match="is empty"):
        inspect_dataset("busi", tmp_path, "x", 20)


def test_real_busi_has_one_image_under_two_labels(shared_data):
    found = inspect_dataset("busi", shared_data / "BUSI", "busi", 20)
    folder = "Dataset_BUSI_with_GT"
    assert [(c.first, c.second) for c in found.identical_pairs] == [
        (f"{folder}/benign/benign (433).png", f"{folder}/malignant/malignant (145).png")
    ]
    assert found.conflicting_pairs[0] == found.identical_pairs[0]
    assert len(found.conflicting_pairs) == 8
    assert found.usable
    assert "benign (433).png" in shown(found, width=80)


def test_real_bus_uclm_duplicates_and_modes(shared_data):
    found = inspect_dataset("bus-uclm", shared_data / "BUS-UCLM", "uclm", 20)
    twins = {(c.first[7:15], c.second[7:15]) for c in found.identical_pairs}
    assert twins == {
        ("CHCO_000", "CHVI_005"),
        ("CHCO_001", "CHVI_008"),
        ("CHCO_002", "CHVI_009"),
        ("CHCO_003", "CHVI_013"),
    }
    assert found.modes["RGBA"] == 13
    assert found.patients == 37
    assert found.usable


def test_a_site_whose_check_fails_hides_no_other_findings(tmp_path, console, monkeypatch):
    def fail_at_south(reader, root, site, *others):
        if site == "south":
            raise ValueError("a fault in a library")
        return inspect_dataset(reader, root, site, *others)

    monkeypatch.setattr("fedbus.reports.archive_check.inspect_dataset", fail_at_south)
    north, south, east = (make_labels_csv(tmp_path / name, patients=False) for name in ("north", "south", "east"))
    few = make_few_patients(tmp_path / "few", patients=3, images=3)
    specs = [(root.name, "labels-csv", root) for root in (south, north, few, east)]

    assert check_sites(specs, tmp_path / "all.json", console) == 1

    reports = {report["site"]: report for report in json.loads((tmp_path / "all.json").read_text())["sites"]}
    assert {site: report["usable"] for site, report in reports.items()} == {
        "south": False, "north": True, "few": True, "east": True,
    }  # fmt: skip
    assert str(south) in reports["south"]["problem"]
    assert "a fault in a library" in reports["south"]["problem"]
    text = printed(console)
    assert text.count("can be used: ") == 3
    assert "Fix south" in text


def test_the_next_command_has_the_folds_that_the_sites_need(tmp_path, console):
    root = make_labels_csv(tmp_path, {"benign": 6, "malignant": 6})  # two images of each of three patients
    assert check_sites([("north", "labels-csv", root)], tmp_path / "all.json", console) == 0
    assert "--set folds=3" in printed(console).partition("Next: ")[2]


def make_few_patients(root, patients, images):
    """A labels-csv dataset with this many patients of two classes, and images of each."""
    generator = np.random.default_rng(3)
    root.mkdir()
    rows = []
    for label in ("benign", "malignant"):
        for number in range(patients * images):
            name = f"{label}-{number}.png"
            make_image(generator).save(root / name)
            rows.append((name, label, f"{label}{number // images}"))
    write_table(root / "labels.csv", ("file", "label", "patient"), rows)
    return root
