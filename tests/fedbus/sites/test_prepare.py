"""From datasets to sites: duplicates, groups, the frozen split, and the same site opened by another process."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.errors import ArchiveError, ImageError, SplitError
from fedbus.settings.load import build_settings
from fedbus.sites.default_sites import resolve_sites, settings_of_run
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import read_facts
from fedbus.sites.split import SPLITS
from tests.archives import make_bus_uclm, make_class_folders, make_labels_csv
from tests.fedbus.sites.small_sites import COUNTS, brightened, settings_of, split_of, used


def test_every_row_is_in_one_split_with_its_own_label_and_image(prepare, north):
    site = prepare({"north": ("class-folders", north)})["north"]
    rows = np.concatenate([site.splits[split] for split in SPLITS])
    assert sorted(rows) == list(range(sum(COUNTS.values())))
    for row in rows:
        assert CLASSES[site.labels[row]] == str(site.paths[row]).split("/")[0].lower()
        with Image.open(north / str(site.paths[row])) as image:
            np.testing.assert_array_equal(site.pixels[row], np.asarray(image.resize((32, 32), Image.BILINEAR)))


def test_one_image_under_two_labels_is_dropped_with_the_reason(prepare, north, tmp_path):
    shutil.copy(north / "Benign" / "3.png", north / "Malignant" / "copy.png")
    with Image.open(north / "Benign" / "5.png") as image:
        image.save(north / "Normal" / "copy.bmp")  # another file, the same pixels
    site = prepare({"north": ("class-folders", north)})["north"]
    gone = {"Benign/3.png": "Malignant/copy.png", "Benign/5.png": "Normal/copy.bmp"}
    dropped = {d["path"]: d["reason"] for d in read_facts(tmp_path / "out")["north"]["dropped"]}
    assert set(dropped) == {*gone, *gone.values()}
    for one, other in gone.items():
        assert "another label" in dropped[one]
        assert other in dropped[one]
        assert one in dropped[other]
    assert not used(site) & set(dropped)
    assert len(used(site)) == sum(COUNTS.values()) - 2
    assert sorted(np.flatnonzero(site.labels == -1)) == sorted(np.flatnonzero(site.groups == ""))
    assert (site.labels == -1).sum() == 4


def test_near_duplicates_share_a_group_and_a_split_also_across_classes(prepare, north):
    for i in range(6):
        brightened(north / "Benign" / f"{i}.png", north / "Benign" / f"near-{i}.png")
    brightened(north / "Benign" / "7.png", north / "Malignant" / "near-7.png")
    site = prepare({"north": ("class-folders", north)})["north"]
    group = dict(zip(site.paths.tolist(), site.groups.tolist(), strict=True))
    for i in range(6):
        assert group[f"Benign/{i}.png"] == group[f"Benign/near-{i}.png"]
        assert split_of(site, f"Benign/{i}.png") == split_of(site, f"Benign/near-{i}.png")
    assert group["Benign/7.png"] == group["Malignant/near-7.png"]
    assert len(set(site.groups.tolist())) == sum(COUNTS.values())


def test_near_bits_decides_what_is_near(prepare, north, tmp_path):
    noise = np.random.default_rng(0).integers(-15, 16, (40, 48))
    with Image.open(north / "Benign" / "0.png") as image:
        changed = np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(changed).save(north / "Benign" / "near.png")
    sites = {"north": ("class-folders", north)}
    prepare(sites, "wide", near_bits=40)
    prepare(sites, "narrow", near_bits=0)
    wide, narrow = (read_facts(tmp_path / out)["north"]["groups"] for out in ("wide", "narrow"))
    assert (wide, narrow) == (sum(COUNTS.values()), sum(COUNTS.values()) + 1)


def test_copies_across_sites_are_dropped_from_the_later_one(prepare, north, tmp_path):
    south = make_class_folders(tmp_path / "south", COUNTS, seed=2)
    shutil.copy(north / "Benign" / "2.png", south / "Benign" / "copy.png")
    brightened(north / "Normal" / "1.png", south / "Malignant" / "near.png")
    sites = prepare({"north": ("class-folders", north), "south": ("class-folders", south)})
    facts = read_facts(tmp_path / "out")
    assert facts["north"]["dropped"] == []
    assert {d["path"]: d["reason"] for d in facts["south"]["dropped"]} == {
        "Benign/copy.png": "copy of Benign/2.png of north",
        "Malignant/near.png": "copy of Normal/1.png of north",
    }
    assert not used(sites["south"]) & {"Benign/copy.png", "Malignant/near.png"}
    assert {"Benign/2.png", "Normal/1.png"} <= used(sites["north"])


def test_a_copy_of_images_of_two_sites_names_the_first(prepare, north, tmp_path):
    middle, south = (make_class_folders(tmp_path / name, COUNTS, seed=seed) for name, seed in (("m", 8), ("s", 9)))
    shutil.copy(north / "Benign" / "2.png", south / "Benign" / "north.png")
    shutil.copy(north / "Benign" / "2.png", middle / "Benign" / "north.png")
    shutil.copy(middle / "Normal" / "1.png", south / "Normal" / "middle.png")
    prepare({name: ("class-folders", path) for name, path in (("north", north), ("middle", middle), ("south", south))})
    facts = read_facts(tmp_path / "out")
    reasons = {site: {d["path"]: d["reason"] for d in facts[site]["dropped"]} for site in facts}
    assert reasons == {
        "north": {},
        "middle": {"Benign/north.png": "copy of Benign/2.png of north"},
        "south": {
            "Benign/north.png": "copy of Benign/2.png of north",
            "Normal/middle.png": "copy of Normal/1.png of middle",
        },
    }


def test_one_dataset_under_two_names_is_refused(prepare, north, tmp_path):
    again = Path(shutil.copytree(north, tmp_path / "again"))
    with pytest.raises(SplitError, match=r"south: 0 of 42 images are left.*42 were dropped.*of north"):
        prepare({"north": ("class-folders", north), "south": ("class-folders", again)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", [18, 25, 40])
def test_a_limit_keeps_whole_groups_and_all_classes(prepare, tmp_path, limit):
    root = make_labels_csv(tmp_path / "labelled", {"benign": 60, "malignant": 40, "normal": 20}, seed=3)
    sites = {"south": ("labels-csv", root)}
    site = prepare(sites, limit=limit)["south"]
    kept = used(site)
    assert limit - 2 < len(kept) <= limit
    with (root / "labels.csv").open(encoding="utf-8") as file:
        patients = {row["file"]: row["patient"] for row in csv.DictReader(file)}
    chosen = {patients[path] for path in kept}
    assert kept == {path for path, patient in patients.items() if patient in chosen}
    for split in SPLITS:
        assert set(site.labels[site.splits[split]].tolist()) == {0, 1, 2}
    assert used(prepare(sites, "again", limit=limit)["south"]) == kept
    assert used(prepare(sites, "other", limit=limit, split_seed=5)["south"]) != kept


def test_a_limit_above_the_number_of_images_changes_nothing(prepare, north, tmp_path):
    sites = {"north": ("class-folders", north)}
    prepare(sites, "all")
    prepare(sites, "limited", limit=1000)
    assert (tmp_path / "all/splits/north.csv").read_bytes() == (tmp_path / "limited/splits/north.csv").read_bytes()


def test_the_same_datasets_give_the_same_bytes(north, tmp_path):
    south = make_bus_uclm(tmp_path / "south", COUNTS, seed=4)
    sites = {"north": ("class-folders", north), "south": ("bus-uclm", south)}
    for out in ("one", "two"):
        prepare_sites(settings_of(tmp_path / f"cache-{out}", sites), tmp_path / out)
    for name in sites:
        one, two = ((tmp_path / out / "splits" / f"{name}.csv").read_bytes() for out in ("one", "two"))
        assert one == two


def test_a_site_is_split_the_same_with_and_without_others(prepare, north, tmp_path):
    south = make_class_folders(tmp_path / "south", COUNTS, seed=2)
    sites = {"north": ("class-folders", north), "south": ("class-folders", south)}
    prepare(sites)
    prepare_sites(settings_of(tmp_path / "cache", sites), tmp_path / "single", ["south"])
    single, among_others = (tmp_path / out / "splits/south.csv" for out in ("single", "out"))
    assert single.read_bytes() == among_others.read_bytes()
    assert not (tmp_path / "single/splits/north.csv").exists()


def test_facts_count_the_rows_of_the_split(prepare, tmp_path):
    site = prepare({"south": ("labels-csv", make_labels_csv(tmp_path / "south", COUNTS))})["south"]
    facts = read_facts(tmp_path / "out")["south"]
    assert (facts["images"], facts["patients"], facts["groups"]) == (42, 21, 21)
    for split in SPLITS:
        for index, name in enumerate(CLASSES):
            assert facts["splits"][split][name] == (site.labels[site.splits[split]] == index).sum()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda root: (root / "Benign" / "0.png").write_bytes(b""), ImageError),
        (lambda root: shutil.rmtree(root), ArchiveError),
        (lambda root: [(root / "Normal" / f"{i}.png").unlink() for i in range(10)], SplitError),
    ],
    ids=["image", "folder", "class"],
)
def test_nothing_is_written_when_one_dataset_is_bad(prepare, north, tmp_path, spoil, error):
    bad = make_class_folders(tmp_path / "bad", COUNTS, seed=5)
    spoil(bad)
    with pytest.raises(error, match="bad"):
        prepare({"north": ("class-folders", north), "bad": ("class-folders", bad)})
    assert not (tmp_path / "out").exists()


def test_settings_without_sites_get_phantoms_and_others_stay_unchanged(tmp_path, north):
    settings = build_settings({"phantom-images": 30, "cache": str(tmp_path)}, "here")
    resolved = resolve_sites(settings)
    assert len(resolved.sites) == 3
    assert all(source.path.is_dir() and source.reader == "phantoms" for source in resolved.sites.values())
    named = settings_of(tmp_path, {"north": ("class-folders", north)})
    assert resolve_sites(named) is named


def test_a_run_names_its_settings_file(tmp_path, north):
    path = tmp_path / "study.toml"
    path.write_text('rounds = 2\n[sites.north]\nreader = "class-folders"\npath = "north"\n', encoding="utf-8")
    settings = settings_of_run({"settings": str(path), "arm": "fedavg"})
    assert (settings.rounds, settings.sites["north"].path) == (2, north)


def test_busi_images_filed_under_both_labels_are_in_no_split(shared_data, prepare, tmp_path):
    site = prepare({"busi": ("busi", shared_data / "BUSI")})["busi"]
    dropped = {Path(d["path"]).name for d in read_facts(tmp_path / "out")["busi"]["dropped"]}
    assert {"benign (433).png", "malignant (145).png"} <= dropped
    assert not {Path(path).name for path in used(site)} & dropped
    groups_of = [set(site.groups[site.splits[split]].tolist()) for split in SPLITS]
    assert not groups_of[0] & groups_of[1] | groups_of[0] & groups_of[2] | groups_of[1] & groups_of[2]


def test_bus_uclm_patients_chco_and_chvi_are_one_group(shared_data, prepare):
    site = prepare({"uclm": ("bus-uclm", shared_data / "BUS-UCLM")})["uclm"]
    names = np.array([Path(path).name[:4] for path in site.paths.tolist()])
    groups = {patient: set(site.groups[names == patient].tolist()) - {""} for patient in ("CHCO", "CHVI")}
    assert len(groups["CHCO"] | groups["CHVI"]) == 1
    assert all(len(set(site.groups[names == patient].tolist()) - {""}) <= 1 for patient in set(names))
