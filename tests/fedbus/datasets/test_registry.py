"""The registry of readers: right reader, right folder, or an error that names them."""

import os

import pytest

from fedbus.classes import CLASSES
from fedbus.datasets.registry import READERS, read_dataset
from fedbus.errors import ArchiveError, FedbusError, SettingsError
from tests.archives import make_bus_bra, make_bus_uclm, make_busi, make_class_folders, make_gdph_sysucc, make_labels_csv

BUILDERS = {
    "busi": make_busi,
    "bus-uclm": make_bus_uclm,
    "gdph-sysucc": make_gdph_sysucc,
    "bus-bra": make_bus_bra,
    "class-folders": make_class_folders,
    "labels-csv": make_labels_csv,
}


def test_names_of_the_readers():
    assert set(READERS) == {*BUILDERS, "gdph", "sysucc", "phantoms"}
    for name, reader in READERS.items():
        assert reader.name == name
        assert reader.citation
        assert reader.terms
        assert reader.census is None or set(reader.census) == set(CLASSES)


@pytest.mark.parametrize("reader", BUILDERS)
def test_every_builder_is_read_by_its_reader(tmp_path, reader):
    manifest = read_dataset(reader, BUILDERS[reader](tmp_path), "site")
    assert len(manifest.rows) > 10
    assert list(manifest.rows) == sorted(manifest.rows, key=lambda row: row.path)
    assert manifest.digest == read_dataset(reader, tmp_path, "another-name").digest


MISTAKES = [
    (reader, published)
    for reader in READERS
    for published in BUILDERS
    if reader != published and not (reader in ("gdph", "sysucc") and published == "gdph-sysucc")
]


@pytest.mark.parametrize(("reader", "published"), MISTAKES)
def test_the_layout_of_another_dataset_is_recognised(tmp_path, reader, published):
    BUILDERS[published](tmp_path)
    with pytest.raises(ArchiveError, match=f"looks like {published}"):
        read_dataset(reader, tmp_path, "x")


def test_busi_with_its_masks_is_not_read_as_class_folders(tmp_path):
    root = make_busi(tmp_path) / "Dataset_BUSI_with_GT"
    with pytest.raises(ArchiveError, match=r"18 masks among its images.* read it with busi"):
        read_dataset("class-folders", root, "x")


@pytest.mark.parametrize("reader", READERS)
def test_missing_file_and_empty_roots(tmp_path, reader):
    file, empty = tmp_path / "a.zip", tmp_path / "empty"
    file.write_bytes(b"PK")
    empty.mkdir()
    for root, message in ((tmp_path / "nowhere", "does not exist"), (file, "is a file"), (empty, "is empty")):
        with pytest.raises(ArchiveError, match=message) as caught:
            read_dataset(reader, root, "north")
        assert str(root) in caught.value.problem
        assert "north" in caught.value.problem


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_of_something_else(tmp_path, reader):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear colleague")
    with pytest.raises(FedbusError) as caught:
        read_dataset(reader, tmp_path, "x")
    assert isinstance(caught.value, ArchiveError)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("buzi", "busi"), ("bus_uclm", "bus-uclm"), ("BUS-BRA", "bus-bra"), ("gdph-sysuc", "gdph-sysucc")],
)
def test_a_misspelt_reader_names_the_nearest(tmp_path, typed, meant):
    with pytest.raises(SettingsError, match=f"Did you mean {meant}\\?"):
        read_dataset(typed, tmp_path, "x")


def test_an_unknown_reader_without_a_close_match_lists_all(tmp_path):
    with pytest.raises(SettingsError, match=r"Readers are busi, .*class-folders") as caught:
        read_dataset("xyzzy", tmp_path, "x")
    assert "Did you mean" not in str(caught.value)


def test_a_site_without_a_reader_names_the_reader_that_fits(tmp_path):
    root = BUILDERS["bus-bra"](tmp_path)
    with pytest.raises(SettingsError, match=f"There is no reader 'north'.*north=bus-bra:{root}.*Readers are"):
        read_dataset("north", root, "north")
    with pytest.raises(SettingsError, match="Did you mean busi"):
        read_dataset("buzi", root, "buzi")


def test_a_folder_whose_path_is_not_utf8_is_refused(tmp_path):
    root = tmp_path / os.fsdecode(b"gr\xf6\xdfe")
    make_class_folders(root)
    with pytest.raises(ArchiveError, match=r"path of site x is not UTF-8: .*gr.udcf6.udcdfe\. Rename") as caught:
        read_dataset("class-folders", root, "x")
    str(caught.value).encode()
    (tmp_path / "link").symlink_to(root)
    assert len(read_dataset("class-folders", tmp_path / "link", "x").rows) == 15


def test_unreadable_files_are_named(tmp_path):
    folder = make_class_folders(tmp_path) / "Benign"
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ArchiveError, match=r"1 link\(s\) that lead nowhere: Benign/gone\.png \(to .*nowhere\.png\)"):
        read_dataset("class-folders", tmp_path, "x")
