"""Trees of links contain exactly the rows of the split, under the labels that our models use."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import RunError, SettingsError
from fedbus.sites.split import SPLITS
from simulations.benchmarks.image_folders import write_image_folders
from simulations.benchmarks.plain_loop import open_image_folder


@pytest.fixture(scope="module")
def folders(tiny_case, tmp_path_factory):
    return write_image_folders(tiny_case, tmp_path_factory.mktemp("trees") / "new")


def rows_of(case, name, split):
    """(original image, label) of each row of the split."""
    site, dataset = case.sites[name], case.settings.sites[name].path
    return [((dataset / site.paths[row]).resolve(), int(site.labels[row])) for row in site.splits[split]]


def found(folder, split):
    """(original image, label) of each image that torchvision finds."""
    return [(Path(path).resolve(), label) for path, label in open_image_folder(folder, split).samples]


@pytest.mark.parametrize("split", SPLITS)
def test_a_site_has_its_rows_and_labels_and_no_other(tiny_case, folders, split):
    for name in tiny_case.sites:
        assert Counter(found(folders[name], split)) == Counter(rows_of(tiny_case, name, split))
        assert all(path.is_file() for path, _ in found(folders[name], split))


@pytest.mark.parametrize("split", SPLITS)
def test_the_pooled_tree_contains_all_sites_rows(tiny_case, folders, split):
    everything = [row for name in tiny_case.sites for row in rows_of(tiny_case, name, split)]
    assert Counter(found(folders["pooled"], split)) == Counter(everything)


def test_classes_have_our_numbers_even_if_one_is_missing(folders):
    for folder in folders.values():
        assert open_image_folder(folder, "train").class_to_idx == {name: i for i, name in enumerate(CLASSES)}
    assert 2 not in open_image_folder(folders["south"], "train").targets


def test_images_are_links_and_not_copies(folders):
    images = [path for folder in folders.values() for path in folder.rglob("*.png")]
    assert images
    assert all(path.is_symlink() for path in images)


def test_existing_trees_are_not_overwritten(tiny_case, tmp_path):
    write_image_folders(tiny_case, tmp_path)
    with pytest.raises(RunError, match="can't be created"):
        write_image_folders(tiny_case, tmp_path)


def test_dicom_is_refused(tiny_case, tmp_path):
    north = tiny_case.sites["north"]
    scans = replace(north, paths=np.array([f"{i}.DCM#3" for i in range(len(north.paths))]))
    with pytest.raises(SettingsError, match="DICOM"):
        write_image_folders(replace(tiny_case, sites={"north": scans}), tmp_path)
