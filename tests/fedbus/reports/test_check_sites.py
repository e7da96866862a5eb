"""`fedbus check` of several sites: what it prints and writes, and the command that it recommends."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from fedbus.errors import RunError, SettingsError
from fedbus.reports.archive_check import check_sites
from fedbus.sites.inspect_dataset import inspect_dataset
from tests.archives import make_bus_bra, make_busi, make_class_folders, make_image, make_labels_csv, write_table


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def printed(console):
    return console.file.getvalue()


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
