"""DICOM files that are damaged, strange or talkative: an error names the file and never a patient."""

import hashlib
import logging
import subprocess
import sys
import traceback
import warnings

import numpy as np
import pytest
from pydicom import dcmread, uid

from fedbus.errors import ImageError
from fedbus.images.dicom import decode_dicom
from fedbus.images.dicom_identity import read_identity
from tests.dicoms import lossless_jpeg, write_compressed, write_dicom, write_rle

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (40, 52), dtype=np.uint8)
DEEP = GENERATOR.integers(0, 4096, (40, 52), dtype=np.uint16)
COLOUR = GENERATOR.integers(0, 256, (40, 52, 3), dtype=np.uint8)
SECRET = "MRN-0815-Musterfrau"


def spoil(path, **tags):
    file = dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    file.save_as(path)
    return path


def faulty_files(folder):
    """Files that can't be used, with what the error must say."""
    plain = (folder / "plain.dcm", GREY)
    strange = write_compressed(folder / "video.dcm", GREY, uid.MPEG2MPML, [b"\0" * 8])
    private = write_compressed(folder / "private.dcm", GREY, "1.2.826.0.1.3680043.9.9", [b"\0" * 8])
    twelve = write_compressed(folder / "twelve.dcm", DEEP, uid.JPEGExtended12Bit, [b"\xff\xd8" * 4], BitsStored=12)
    wrong = write_compressed(folder / "wrong.dcm", GREY, uid.JPEGLosslessSV1, [lossless_jpeg(GREY[:30])])
    bare = folder / "bare.dcm"
    bare.write_bytes(write_dicom(*plain).read_bytes()[132:])
    quoting = write_dicom(folder / "quoting.dcm", GREY[None], NumberOfFrames=1234567890)
    quoting.write_bytes(quoting.read_bytes().replace(b"1234567890", SECRET[:10].encode()))
    cut = folder / "cut.dcm"
    cut.write_bytes(write_dicom(*plain).read_bytes()[:-500])
    (folder / "text.dcm").write_text("no DICOM")
    (folder / "empty.dcm").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        secret = write_dicom(folder / "hsv.dcm", COLOUR, PhotometricInterpretation=SECRET[:16])
    return {
        folder / "gone.dcm": "does not exist",
        folder / "empty.dcm": "is an empty file",
        folder / "text.dcm": "is not a DICOM file",
        bare: "is not a DICOM file.* with preamble",
        cut: "can't be decoded",
        quoting: "can't be decoded",
        wrong: "can't be decoded",
        strange: "encrypted, or its compression is not supported.*Export it decrypted",
        private: "encrypted, or its compression is not supported",
        twelve: "encrypted, or its compression is not supported",
        spoil(write_dicom(folder / "report.dcm", GREY), PixelData=None): "contains no image",
        spoil(write_dicom(folder / "bits.dcm", GREY), BitsStored=None): "contains no image",
        secret: "colours of a kind that is not supported",
        write_dicom(folder / "odd.dcm", COLOUR, PhotometricInterpretation="MONOCHROME2"): "contradicts itself",
        spoil(write_rle(folder / "huge.dcm", GREY), Rows=60000, Columns=60000): "more pixels than any scanner",
    }


def test_faults_name_the_file_and_a_remedy_and_quote_no_tag(tmp_path, caplog):
    files = faulty_files(tmp_path)
    caplog.clear()  # of what pydicom said when they were written
    for path, message in files.items():
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            file = dcmread(path)
            file.PatientID = file.PatientName = file.StudyDate = SECRET
            file.save_as(path)
        with pytest.raises(ImageError, match=f"{path.name} .*{message}") as caught:
            decode_dicom(path)
        assert caught.value.problem.startswith(f"{path} ")
        assert SECRET[:10] not in "".join(traceback.format_exception(caught.value)), path
    assert SECRET[:10] not in caplog.text


def loud_files(folder):
    """One file that pydicom reads with warnings, and one that it can't decode, and logs why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warned = write_dicom(folder / "warned.dcm", GREY, PatientID=70 * "7")
        broken = write_rle(folder / "broken.dcm", GREY)
        file = dcmread(broken)
        file.Rows = 60
        file.save_as(broken)
    return warned, broken


def test_no_message_of_pydicom_is_shown(tmp_path, caplog, monkeypatch):
    warned, broken = loud_files(tmp_path)

    def read_both():
        read_identity(warned, "x")
        decode_dicom(warned)
        with pytest.raises(ImageError):
            decode_dicom(broken)

    with warnings.catch_warnings(record=True) as heard, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read_both()
        assert [str(w.message) for w in heard] == []
        assert caplog.text == ""

        logging.getLogger("pydicom").setLevel(logging.DEBUG)  # and what would have been heard
        warnings.simplefilter("always")
        monkeypatch.setattr("fedbus.images.dicom.keep_quiet", lambda: None)
        monkeypatch.setattr("fedbus.images.dicom_identity.keep_quiet", lambda: None)
        read_both()
        assert any("maximum length of 64" in str(w.message) for w in heard)
        assert "RLE segment" in caplog.text


def test_a_fresh_process_prints_nothing(tmp_path):
    program = (
        "import sys; from pathlib import Path; from fedbus.images.dicom import decode_dicom\n"
        "from fedbus.images.dicom_identity import read_identity\n"
        "for name in sys.argv[1:]:\n"
        "    read_identity(Path(name), 'x')\n"
        "    try: decode_dicom(Path(name))\n"
        "    except Exception as error: assert type(error).__name__ == 'ImageError'"
    )
    command = [sys.executable, "-c", program, *map(str, loud_files(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout + done.stderr == ""


def test_a_patient_is_a_pseudonym_that_depends_on_the_site(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", GREY, PatientID=SECRET)
    expected = hashlib.sha256(f"north\x1f{SECRET}".encode()).hexdigest()[:16]
    assert read_identity(path, "north").patient == expected
    assert read_identity(write_dicom(tmp_path / "b.dcm", COLOUR, PatientID=f"{SECRET} "), "north").patient == expected
    assert read_identity(path, "south").patient != expected
    assert read_identity(write_dicom(tmp_path / "c.dcm", GREY, PatientID=""), "north").patient is None
    assert read_identity(write_dicom(tmp_path / "d.dcm", GREY), "north").patient is None
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert read_identity(tmp_path / "text.dcm", "north").patient is None
    with pytest.raises(FileNotFoundError):
        read_identity(tmp_path / "gone.dcm", "north")
