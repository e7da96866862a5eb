"""A site that took no part in a run: what is tested there, and what is left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.errors import ArchiveError, ImageError, RunError, SettingsError
from fedbus.settings.schema import SiteSource
from fedbus.sites.unseen_site import UnseenSite, prepare_unseen_site
from tests.archives import make_bus_bra, make_class_folders, make_labels_csv
from tests.fedbus.sites.small_sites import COUNTS, brightened, settings_of


@pytest.fixture
def unseen(prepare, north, tmp_path):
    """Prepare a new site for a run of `north` and, if given, of a further site."""

    def run(reader: str, folder: Path, name: str = "new", **more: tuple[str, Path]) -> UnseenSite:
        sites = {"north": ("class-folders", north), **more}
        prepare(sites)
        settings = settings_of(tmp_path / "cache", sites)
        return prepare_unseen_site(name, SiteSource(reader=reader, path=folder), tmp_path / "out", settings)

    return run


def paths_of(found: UnseenSite) -> set[str]:
    return set(found.site.paths[found.site.splits["test"]].tolist())


def test_all_images_are_test_images_with_their_own_labels_and_patients(unseen, tmp_path):
    found = unseen("labels-csv", make_labels_csv(tmp_path / "new", {"benign": 6, "malignant": 4}, seed=7))
    rows = found.site.splits["test"]
    assert rows.tolist() == list(range(10))
    for row in rows:
        assert CLASSES[found.site.labels[row]] in found.site.paths[row]
    assert (found.images, found.patients, found.conflicting, found.in_run) == (10, 5, 0, {})
    assert len(set(found.site.groups.tolist())) == 5


def test_near_duplicates_of_the_runs_images_are_left_out_with_their_patients(unseen, north, tmp_path):
    folder = make_labels_csv(tmp_path / "new", {"benign": 6, "malignant": 4}, seed=7)
    brightened(north / "Benign" / "2.png", folder / "scans" / "benign-0.png")  # benign-1 is of the same patient
    shutil.copy(north / "Malignant" / "0.png", folder / "scans" / "malignant-3.png")
    found = unseen("labels-csv", folder)
    gone = {f"scans/{name}.png" for name in ("benign-0", "benign-1", "malignant-2", "malignant-3")}
    assert len(paths_of(found)) == 6
    assert not paths_of(found) & gone
    assert found.in_run == {"north": 4}
    left = found.site.labels == -1
    assert left.sum() == 4
    assert (found.site.groups[left] == "").all()
    assert found.patients == 3


def test_one_image_under_two_labels_is_left_out(unseen, tmp_path):
    folder = make_class_folders(tmp_path / "new", COUNTS, seed=7)
    shutil.copy(folder / "Benign" / "3.png", folder / "Malignant" / "copy.png")
    found = unseen("class-folders", folder)
    assert found.conflicting == 2
    assert not paths_of(found) & {"Benign/3.png", "Malignant/copy.png"}
    assert len(paths_of(found)) == sum(COUNTS.values()) - 1


def test_equal_ids_mean_the_same_patient_only_within_one_published_dataset(unseen, tmp_path):
    one, other = {"benign": 12, "malignant": 12}, {"benign": 28, "malignant": 4}
    south = ("bus-bra", make_bus_bra(tmp_path / "south", one, seed=3))
    found = unseen("bus-bra", make_bus_bra(tmp_path / "new", other, seed=4), south=south)
    assert found.in_run == {"south": 24}  # cases 1 to 12, two views each; other images
    own = ("labels-csv", make_labels_csv(tmp_path / "own", one, seed=5))
    shutil.rmtree(tmp_path / "out")  # the next run has other sites
    assert unseen("labels-csv", make_labels_csv(tmp_path / "apart", other, seed=6), own=own).in_run == {}


def test_a_dataset_of_the_run_is_refused(unseen, north, tmp_path):
    again = Path(shutil.copytree(north, tmp_path / "again"))
    with pytest.raises(RunError, match=r"new: 0 of 42 images are left.*42 are near-duplicates"):
        unseen("class-folders", again)
    with pytest.raises(SettingsError, match="already has a site called north"):
        unseen("class-folders", again, "north")


def test_unusable_datasets_are_refused(unseen, tmp_path):
    folder = make_class_folders(tmp_path / "new", COUNTS, seed=7)
    (folder / "Benign" / "3.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"1 image\(s\) of new.*3\.png"):
        unseen("class-folders", folder)
    with pytest.raises(ArchiveError, match="does not exist"):
        unseen("class-folders", tmp_path / "nowhere")
    labelled = make_labels_csv(tmp_path / "labelled", {"benign": 6, "tumour": 4})
    with pytest.raises(ArchiveError, match="tumour"):
        unseen("labels-csv", labelled)


def test_a_deleted_cache_is_reported(unseen, tmp_path):
    folder = make_class_folders(tmp_path / "new", COUNTS, seed=7)
    before = unseen("class-folders", folder).site.splits["test"]
    for path in (tmp_path / "cache").rglob("*-prints.npy"):
        path.unlink()
    settings = settings_of(tmp_path / "cache", {})
    with pytest.raises(RunError, match=r"fingerprints.*--resume"):
        prepare_unseen_site("new", SiteSource(reader="class-folders", path=folder), tmp_path / "out", settings)
    np.testing.assert_array_equal(unseen("class-folders", folder).site.splits["test"], before)
