"""Which files are images: DICOM with any name, other formats by their ending."""

import os

import numpy as np
import pytest
from pydicom import uid

from fedbus.images.decode import decode_image, stored_mode
from fedbus.images.file_kind import IMAGE, UNIMPORTANT, find_kind, is_dicom
from tests.archives import make_image
from tests.dicoms import write_dicom


@pytest.fixture
def grey():
    return make_image(np.random.default_rng(0))


@pytest.mark.parametrize(
    "name", ["IM0001", "scan.dicom", "A.IMA", "1.2.840.113619.2.55.3", "scan.DCM", "x.bak", "y.txt"]
)
def test_dicom_of_any_name(tmp_path, grey, name):
    path = write_dicom(tmp_path / name, np.asarray(grey))
    assert find_kind(path) == IMAGE
    assert is_dicom(path)
    assert stored_mode(path) == "DICOM"
    np.testing.assert_array_equal(np.asarray(decode_image(path)), np.asarray(grey))


def test_dicom_with_the_ending_of_another_format(tmp_path, grey):
    path = write_dicom(tmp_path / "scan.png", np.asarray(grey))
    assert find_kind(path) == IMAGE
    np.testing.assert_array_equal(np.asarray(decode_image(path)), np.asarray(grey))


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (uid.MediaStorageDirectoryStorage, "DICOMDIR"),
        (uid.BasicTextSRStorage, "DICOM without image"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "DICOM without image"),
        (uid.EncapsulatedPDFStorage, "DICOM without image"),
        (uid.SegmentationStorage, "DICOM without image"),
        (uid.TwelveLeadECGWaveformStorage, "DICOM without image"),
        (uid.UltrasoundImageStorage, IMAGE),
        (uid.UltrasoundMultiFrameImageStorage, IMAGE),
        (uid.SecondaryCaptureImageStorage, IMAGE),
        ("1.2.840.10008.1.3.100", IMAGE),
    ],
)
@pytest.mark.parametrize("name", ["DICOMDIR", "a.dcm"])
def test_dicom_objects_without_an_image(tmp_path, grey, sop_class, kind, name):
    assert find_kind(write_dicom(tmp_path / name, np.asarray(grey), SOPClassUID=sop_class)) == kind


def test_dicom_without_preamble(tmp_path, grey):
    whole = write_dicom(tmp_path / "a", np.asarray(grey)).read_bytes()
    (tmp_path / "bare").write_bytes(whole[132:])
    (tmp_path / "bare.dcm").write_bytes(whole[132:])
    (tmp_path / "implicit").write_bytes(b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100")
    assert [find_kind(tmp_path / name) for name in ("bare", "implicit")] == ["DICOM without preamble"] * 2
    assert find_kind(tmp_path / "bare.dcm") == IMAGE  # decoding it says what is wrong


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.heic", ".heic"), ("a.ZIP", ".zip"), ("a", "no ending"), ("a.001", "no ending"), ("report.PDF", UNIMPORTANT),
        ("Thumbs.db", UNIMPORTANT), ("notes.txt", UNIMPORTANT), ("a.png", IMAGE), ("a.JFIF", IMAGE), ("a.webp", IMAGE),
        ("a.gif", IMAGE), ("a.jpe", IMAGE), ("a.jp2", IMAGE), ("a.pgm", IMAGE), ("a.dcm", IMAGE),
    ],
)  # fmt: skip
def test_other_files_by_ending(tmp_path, name, kind):
    for content in (b"", b"whatever"):
        (tmp_path / name).write_bytes(content)
        assert find_kind(tmp_path / name) == kind


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
def test_images_with_an_ending_of_no_image(tmp_path, grey, form):
    for name, kind in {"IM1": "images with no ending", "a.txt": "images with .txt", "a.x": "images with .x"}.items():
        with (tmp_path / name).open("wb") as file:
            grey.save(file, form)
        assert find_kind(tmp_path / name) == kind


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")
    assert find_kind(tmp_path / "pipe") == "no ending"
