"""Sites whose own images are DICOM: frames, patients, and that no patient id is passed on."""

import hashlib

import numpy as np
import pytest

from fedbus.datasets.readers import class_folders, labels_csv
from fedbus.errors import ArchiveError, ImageError
from fedbus.settings.load import build_settings
from fedbus.sites.inspect_dataset import inspect_dataset
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import open_site
from tests.archives import make_image
from tests.dicoms import make_dicom_csv, write_dicom

GENERATOR = np.random.default_rng(0)


def noise(*shape):
    return GENERATOR.integers(0, 256, shape, dtype=np.uint8)


def pseudonym(site, text):
    return hashlib.sha256(f"{site}\x1f{text}".encode()).hexdigest()[:16]


def make_scans(root, ids=("MRN-1", "MRN-2", None), frames=4):
    """a.dcm, b.dcm and so on of several frames; returns the pixels of each."""
    pixels = {}
    for name, identity in zip("abcdefgh", ids, strict=False):
        pixels[name] = noise(frames, 40, 48)
        tags = {} if identity is None else {"PatientID": identity}
        write_dicom(root / f"{name}.dcm", pixels[name], NumberOfFrames=frames, **tags)
    return pixels


def test_class_folders_take_patients_from_dicom(tmp_path):
    write_dicom(tmp_path / "benign" / "1.dcm", noise(40, 48), PatientID="MRN-1")
    write_dicom(tmp_path / "benign" / "2.DCM", noise(40, 48))
    write_dicom(tmp_path / "malignant" / "3.dcm", noise(40, 48), PatientID="MRN-1")
    write_dicom(tmp_path / "malignant" / "4.dcm", noise(40, 48), PatientID="MRN-2")
    make_image(GENERATOR).save(tmp_path / "malignant" / "5.png")

    manifest = class_folders.read(tmp_path, "north")

    first, second = pseudonym("north", "MRN-1"), pseudonym("north", "MRN-2")
    assert [(row.path, row.patient) for row in manifest.rows] == [
        ("benign/1.dcm", first),
        ("benign/2.DCM", None),
        ("malignant/3.dcm", first),
        ("malignant/4.dcm", second),
        ("malignant/5.png", None),
    ]
    assert manifest.notes == ("2 images name no patient; each counts as a separate patient",)


def test_one_id_for_all_files_is_noted(tmp_path):
    for i, label in enumerate(("benign", "malignant")):
        write_dicom(tmp_path / label / f"{i}.dcm", noise(40, 48), PatientID="TRIAL-7")
    (note,) = class_folders.read(tmp_path, "north").notes
    assert "all 2 DICOM files have the same patient id" in note
    assert "TRIAL" not in note


def test_each_frame_is_a_separate_row(tmp_path):
    pixels = make_scans(tmp_path)
    rows = [("a.dcm", "benign", "", "4"), ("a.dcm", "benign", "", "1"), ("b.dcm", "malignant", "", "")]
    make_dicom_csv(tmp_path, [*rows, ("c.dcm", "normal", "", "2"), ("c.dcm", "normal", "", " 03 ")])

    manifest = labels_csv.read(tmp_path, "north")

    assert [(row.path, row.patient) for row in manifest.rows] == [
        ("a.dcm#1", pseudonym("north", "MRN-1")),
        ("a.dcm#4", pseudonym("north", "MRN-1")),
        ("b.dcm", pseudonym("north", "MRN-2")),
        ("c.dcm#2", pseudonym("north", "c.dcm")),
        ("c.dcm#3", pseudonym("north", "c.dcm")),
    ]
    digests = [row.sha256 for row in manifest.rows]
    assert digests[0] == digests[1] == hashlib.sha256((tmp_path / "a.dcm").read_bytes()).hexdigest()
    images = decode_dataset(manifest, PixelCache(tmp_path / "cache", 40)).images
    again = decode_dataset(manifest, PixelCache(tmp_path / "cache", 40)).images
    np.testing.assert_array_equal(images, again)
    stored = [pixels["a"][0], pixels["a"][3], pixels["b"][1], pixels["c"][1], pixels["c"][2]]
    for image, expected in zip(images, stored, strict=True):
        assert np.corrcoef(image.mean(axis=1), expected.mean(axis=1))[0, 1] > 0.9


def test_each_frame_is_a_separate_image_in_the_cache(tmp_path):
    make_scans(tmp_path)
    images = {}
    for frame in ("1", "2", ""):
        rows = [("a.dcm", "benign", "", frame), ("b.dcm", "malignant", "", ""), ("c.dcm", "normal", "", "")]
        manifest = labels_csv.read(make_dicom_csv(tmp_path, rows), "north")
        images[frame] = decode_dataset(manifest, PixelCache(tmp_path / "cache", 32)).images[0].copy()
    assert not np.array_equal(images["1"], images["2"])
    np.testing.assert_array_equal(images["2"], images[""])


def test_named_patients_are_kept_and_fill_in_empty_ones(tmp_path):
    make_scans(tmp_path, ids=("MRN-1", "MRN-1", "MRN-2", None))
    rows = [("a.dcm", "benign", "Anna", ""), ("b.dcm", "malignant", "", "1"), ("b.dcm", "malignant", "", "2")]
    make_dicom_csv(tmp_path, [*rows, ("c.dcm", "normal", "", ""), ("d.dcm", "normal", "", "")])
    manifest = labels_csv.read(tmp_path, "north")
    assert [row.patient for row in manifest.rows] == ["Anna", "Anna", "Anna", pseudonym("north", "MRN-2"), None]
    assert manifest.notes == ("1 rows name no patient; each counts as a separate patient",)


def test_one_file_has_one_patient(tmp_path):
    make_scans(tmp_path)
    rows = [("b.dcm", "malignant", "", ""), ("c.dcm", "normal", "Carla", "1"), ("c.dcm", "normal", "", "2")]
    torn = [("a.dcm", "benign", "Anna", "1"), ("a.dcm", "benign", "Berta", "2")]
    make_dicom_csv(tmp_path, [*rows, *torn])
    with pytest.raises(ArchiveError, match=r"several patients for frames of one file: a\.dcm\. Name the same"):
        labels_csv.read(tmp_path, "north")
    make_dicom_csv(tmp_path, [*rows, torn[0]])
    patients = {row.path: row.patient for row in labels_csv.read(tmp_path, "north").rows}
    assert patients["c.dcm#1"] == patients["c.dcm#2"] == "Carla"


@pytest.mark.parametrize("frame", ["0", "-1", "1.5", "x", "²"])
def test_impossible_frames_are_named(tmp_path, frame):
    make_scans(tmp_path, ids=("MRN-1", "MRN-2"))
    make_dicom_csv(tmp_path, [("a.dcm", "benign", "", "1"), ("b.dcm", "malignant", "", frame)])
    with pytest.raises(ArchiveError, match=rf"impossible frames: row 3 \('{frame}' of b\.dcm\)"):
        labels_csv.read(tmp_path, "north")


def test_only_dicom_has_frames(tmp_path):
    make_scans(tmp_path, ids=("MRN-1",))
    make_image(GENERATOR).save(tmp_path / "b.png")
    make_dicom_csv(tmp_path, [("a.dcm", "benign", "", "1"), ("b.png", "malignant", "", "1")])
    with pytest.raises(ArchiveError, match=r"row 3 \('1' of b\.png\).*leave the column empty"):
        labels_csv.read(tmp_path, "north")


def test_rows_and_files_must_match_frame_by_frame(tmp_path):
    make_scans(tmp_path)
    rows = [("a.dcm", "benign", "", "1"), ("a.dcm", "benign", "", "01"), ("gone.dcm", "malignant", "", "7")]
    make_dicom_csv(tmp_path, [*rows, ("b.dcm", "malignant", "", "1")])
    with pytest.raises(ArchiveError) as caught:
        labels_csv.read(tmp_path, "north")
    message = str(caught.value)
    assert "1 rows without a file: gone.dcm#7" in message
    assert "1 files without a row: c.dcm" in message
    assert "1 named more than once: a.dcm#1" in message


def test_a_frame_beyond_the_last_is_named_with_its_file(tmp_path):
    make_scans(tmp_path, ids=("MRN-1", "MRN-2"))
    make_dicom_csv(tmp_path, [("a.dcm", "benign", "", "5"), ("b.dcm", "malignant", "", "4")])
    manifest = labels_csv.read(tmp_path, "north")
    with pytest.raises(ImageError, match=r"a\.dcm has no frame 5\. Count frames from 1"):
        decode_dataset(manifest, PixelCache(tmp_path / "cache", 32))


def test_the_check_lists_faults_and_no_patient_id(tmp_path):
    make_scans(tmp_path, ids=("MRN-1", "MRN-1", None, None))
    (tmp_path / "d.dcm").write_text("no DICOM")
    rows = [("a.dcm", "benign", "", "5"), ("b.dcm", "malignant", "", "1"), ("b.dcm", "malignant", "", "2")]
    make_dicom_csv(tmp_path, [*rows, ("c.dcm", "normal", "", ""), ("d.dcm", "normal", "", "")])

    found = inspect_dataset("labels-csv", tmp_path, "north", 20)

    assert found.modes == {"DICOM": 3}
    assert found.patients == 1
    assert [(each.path, each.reason) for each in found.unreadable] == [
        ("a.dcm#5", "has no frame 5"),
        ("d.dcm", "is not a DICOM file: it does not have DICM at byte 128"),
    ]
    assert "MRN" not in str(found.to_json())


def test_frames_of_a_file_stay_together_and_no_id_is_written(tmp_path):
    """From DICOM to a frozen split: no patient id in any file of the run folder."""
    root, rows = tmp_path / "scans", []
    for i in range(18):
        label = ("benign", "malignant", "normal")[i % 3]
        tags = {"PatientID": f"MRN-{i // 6}-{label}"} if i < 12 else {}
        write_dicom(root / f"{i}.dcm", noise(3, 40, 48), NumberOfFrames=3, **tags)
        rows += [(f"{i}.dcm", label, "", str(frame)) for frame in (1, 3)]
    make_dicom_csv(root, rows)
    sites = {"north": {"reader": "labels-csv", "path": str(root)}}
    settings = {"sites": sites, "folds": 3, "image-size": 32, "cache": str(tmp_path / "cache")}
    out = tmp_path / "run"

    prepare_sites(build_settings(settings, "a test"), out)

    site = open_site(out, "north")
    split_of = {str(site.paths[row]): split for split, chosen in site.splits.items() for row in chosen}
    assert len(split_of) == 36
    for i in range(18):
        assert split_of[f"{i}.dcm#1"] == split_of[f"{i}.dcm#3"]
    assert split_of["0.dcm#1"] == split_of["3.dcm#1"]  # two files of one patient
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) >= 2
    for path in written:
        assert b"MRN" not in path.read_bytes()


def write_study(root, tags_of):
    """One file per entry, of both classes in turn; returns the patients in the order of the files, and the notes."""
    for i, tags in enumerate(tags_of):
        write_dicom(root / ("benign", "malignant")[i % 2] / f"{i:02}.dcm", noise(40, 48), **tags)
    manifest = class_folders.read(root, "north")
    by_name = {row.path[-6:-4]: row.patient for row in manifest.rows}
    return [by_name[f"{i:02}"] for i in range(len(tags_of))], manifest.notes


def test_without_a_patient_id_the_images_of_one_study_stay_together(tmp_path):
    tags = [
        {"StudyInstanceUID": "1.2.3"},
        {"StudyInstanceUID": "1.2.3", "PatientID": ""},
        {"StudyInstanceUID": "1.2.4"},
    ]
    patients, notes = write_study(tmp_path, [*tags, {}])
    assert patients == [pseudonym("north", "1.2.3")] * 2 + [None, None]
    note, missing = notes
    assert missing == "2 images name no patient; each counts as a separate patient"
    assert note.startswith("2 DICOM files have no patient id, so images of one study stay together")
    assert "1.2.3" not in note


def test_a_file_without_a_patient_id_is_of_the_patient_of_its_study(tmp_path):
    tags = [{"StudyInstanceUID": "1.2.3", "PatientID": "MRN-1"}, {"StudyInstanceUID": "1.2.3"}, {"PatientID": "MRN-2"}]
    patients, _ = write_study(tmp_path, tags)
    assert patients == [pseudonym("north", "MRN-1")] * 2 + [pseudonym("north", "MRN-2")]


@pytest.mark.parametrize("marker", ["ANONYMOUS", "unknown", "N/A", "XXXX", "NONE", "-"])
def test_patient_ids_that_mean_unknown_are_none(tmp_path, marker):
    patients, notes = write_study(tmp_path, [{"PatientID": marker}] * 3 + [{"PatientID": "MRN-1"}])
    assert patients == [None, None, None, pseudonym("north", "MRN-1")]
    assert notes == (
        "3 DICOM files have a patient id that means unknown, as after de-identification",
        "3 images name no patient; each counts as a separate patient",
    )


def test_patient_ids_of_files_that_differ_only_in_form_are_one(tmp_path):
    patients, notes = write_study(tmp_path, [{"PatientID": each} for each in ("0007", "7", "7.0", "P-8", "p8", "9")])
    assert len(set(patients[:3])) == len(set(patients[3:5])) == 1
    assert len(set(patients)) == 3
    assert patients[0] in {pseudonym("north", each) for each in ("0007", "7", "7.0")}
    (note,) = notes
    assert note.startswith("5 patient ids in DICOM files differ only in form, so they count as 2 patients")


def test_a_study_of_several_patients_is_noted(tmp_path):
    tags = [{"StudyInstanceUID": "1.2.3", "PatientID": f"MRN-{i}"} for i in range(3)]
    patients, notes = write_study(tmp_path, tags)
    assert len(set(patients)) == 3
    assert notes == ("1 studies in DICOM files have several patient ids, though a study is of one patient: check them",)


def test_a_patient_named_in_the_table_is_that_of_the_whole_study(tmp_path):
    for name in "abc":
        write_dicom(tmp_path / f"{name}.dcm", noise(40, 48), StudyInstanceUID="1.2.3" if name < "c" else "1.2.4")
    make_dicom_csv(
        tmp_path, [("a.dcm", "benign", "Anna", ""), ("b.dcm", "benign", "", ""), ("c.dcm", "normal", "", "")]
    )
    assert [row.patient for row in labels_csv.read(tmp_path, "north").rows] == ["Anna", "Anna", None]
