"""The subgroups of a site's images: found for every row, written beside the split, without effect on it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.errors import RunError, SettingsError
from fedbus.sites.lesion_size import COLUMN, NO_LESION
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import frozen_digests, read_facts, site_notes
from fedbus.sites.subgroups import read_subgroups, subgroups_path
from tests.archives import (
    SIZE,
    make_bus_bra,
    make_bus_uclm,
    make_busi,
    make_class_folders,
    make_labels_csv,
    write_table,
)
from tests.fedbus.sites.small_sites import COUNTS, settings_of

COUNTS_OF_LESIONS = {"benign": 16, "malignant": 14}


def add_columns(root: Path, **columns: list[object]) -> Path:
    """Add columns to a table of `make_labels_csv`."""
    with (root / "labels.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    write_table(
        root / "labels.csv",
        (*header, *columns),
        [(*row, *cells) for row, *cells in zip(rows, *columns.values(), strict=True)],
    )
    return root


def test_every_row_of_published_datasets_has_its_attributes(prepare, tmp_path: Path) -> None:
    bra = make_bus_bra(tmp_path / "bra", COUNTS_OF_LESIONS)
    uclm = make_bus_uclm(tmp_path / "uclm", COUNTS, seed=1)
    prepare({"bra": ("bus-bra", bra), "uclm": ("bus-uclm", uclm)})
    found = read_subgroups(tmp_path / "out", "bra")
    assert list(found) == ["BI-RADS", "device", "side", COLUMN]
    assert len(found["side"]) == 30
    assert all(side == {"l": "left", "r": "right"}[path[-5]] for path, side in found["side"].items())
    assert list(read_subgroups(tmp_path / "out", "uclm")) == ["Doppler", "burned-in annotations", COLUMN]


def test_attributes_change_no_digest_and_no_split(prepare, tmp_path: Path) -> None:
    """A table with further columns, and a setting that names them, give the bytes that a table without them gives."""
    plain = make_labels_csv(tmp_path / "plain", COUNTS)
    table = (plain / "labels.csv").read_bytes()
    prepare({"north": ("labels-csv", plain)}, "before")
    add_columns(plain, scanner=[f"S{i % 2}" for i in range(42)])
    prepare({"north": ("labels-csv", plain)}, "after", subgroups=["scanner"])
    assert (plain / "labels.csv").read_bytes() != table
    before, after = tmp_path / "before", tmp_path / "after"
    assert frozen_digests(before) == frozen_digests(after)
    assert (before / "splits" / "north.csv").read_bytes() == (after / "splits" / "north.csv").read_bytes()
    assert not subgroups_path(before, "north").exists()
    assert set(read_subgroups(after, "north")["scanner"].values()) == {"S0", "S1"}


def test_the_sizes_of_lesions_are_their_share_of_the_image_in_thirds(prepare, tmp_path: Path) -> None:
    root = make_busi(tmp_path / "busi", {"benign": 16, "malignant": 14, "normal": 12})
    shares = {}
    for number, path in enumerate(sorted(root.rglob("*_mask.png"))):
        mask = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
        mask[: number % 30 + 1] = 255 * ("normal" not in path.name)
        Image.fromarray(mask).save(path)
        shares[path.name.replace("_mask", "")] = 100 * (mask > 0).mean()
    for path in root.rglob("*_mask_1.png"):
        path.unlink()
    prepare({"busi": ("busi", root)})
    groups = {Path(path).name: group for path, group in read_subgroups(tmp_path / "out", "busi")[COLUMN].items()}
    lesions = [share for name, share in shares.items() if "normal" not in name]
    low, high = np.quantile(lesions, (1 / 3, 2 / 3))
    for name, share in shares.items():
        if "normal" in name:
            assert groups[name] == NO_LESION
        else:
            expected = f"over {high:.3g}" if share > high else f"{low:.3g} to {high:.3g}"
            assert groups[name] == (expected if share > low else f"{low:.3g} or less"), (name, share)


def test_a_mask_of_another_size_gives_an_unknown_size_and_a_note_that_names_it(prepare, tmp_path: Path) -> None:
    root = make_bus_bra(tmp_path / "bra", COUNTS_OF_LESIONS)
    mask = root / "BUSBRA" / "Masks" / "mask_0001-l.png"
    Image.new("1", (SIZE[0] + 1, SIZE[1]), 1).save(mask)
    prepare({"bra": ("bus-bra", root)})
    sizes = read_subgroups(tmp_path / "out", "bra")[COLUMN]
    assert sizes["BUSBRA/Images/bus_0001-l.png"] == ""
    assert list(sizes.values()).count("") == 1
    (note,) = read_facts(tmp_path / "out")["bra"]["subgroup_notes"]
    assert "BUSBRA/Masks/mask_0001-l.png is 49 x 40 pixels" in note
    assert str(tmp_path) not in note  # reports are shared
    assert f"bra: {note}" in site_notes(tmp_path / "out")


def test_a_column_with_too_many_values_stops_nothing_and_is_named_in_a_note(prepare, tmp_path: Path) -> None:
    root = add_columns(
        make_labels_csv(tmp_path / "north", COUNTS),
        comment=[f"finding {chr(97 + i % 26)}{i}" for i in range(42)],
        scanner=["GE"] * 42,
    )
    prepare({"north": ("labels-csv", root)}, subgroups=["comment", "scanner"])
    assert list(read_subgroups(tmp_path / "out", "north")) == ["scanner"]
    (note,) = read_facts(tmp_path / "out")["north"]["subgroup_notes"]
    assert "the column comment has 42 different values" in note


def test_a_misspelt_column_is_refused_and_nothing_is_written(prepare, tmp_path: Path) -> None:
    root = add_columns(make_labels_csv(tmp_path / "north", COUNTS), scanner=["GE"] * 42)
    with pytest.raises(SettingsError, match=r"'scaner'.* Its other columns are scanner"):
        prepare({"north": ("labels-csv", root)}, subgroups=["scaner"])
    assert not (tmp_path / "out").exists()


def test_a_site_without_attributes_has_no_file_even_after_one_that_had(prepare, tmp_path: Path) -> None:
    root = add_columns(make_labels_csv(tmp_path / "own", COUNTS, seed=3), scanner=["GE"] * 42)
    sites = {"own": ("labels-csv", root), "plain": ("class-folders", make_class_folders(tmp_path / "plain", COUNTS))}
    prepare(sites, subgroups=["scanner"])
    assert subgroups_path(tmp_path / "out", "own").is_file()
    assert not subgroups_path(tmp_path / "out", "plain").exists()
    prepare(sites)
    assert not subgroups_path(tmp_path / "out", "own").exists()
    assert read_subgroups(tmp_path / "out", "own") == {}


def test_a_deployed_site_finds_no_subgroups(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "cache", {"bra": ("bus-bra", make_bus_bra(tmp_path / "bra", COUNTS_OF_LESIONS))})
    prepare_sites(settings, tmp_path / "out", ["bra"])
    assert not (tmp_path / "out" / "subgroups").exists()
    assert "subgroup_notes" not in read_facts(tmp_path / "out")["bra"]
    assert "subgroups" not in settings.model_copy(update={"subgroups": ("age",)}).for_sites()


@pytest.mark.parametrize("text", ["", "path\na\n", "file,scanner\na,b\n", "path,scanner\na\n", "path,scanner\n\xff"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = subgroups_path(tmp_path, "north")
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=r"north\.csv") as error:
        read_subgroups(tmp_path, "north")
    assert "--resume" in error.value.remedy
