"""Hostile and huge files cost no more than the limits, and are refused by name; special files are never read."""

import os
import socket
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

from fedbus.datasets.manifest import build_manifest
from fedbus.errors import ArchiveError, ImageError
from fedbus.images import limits
from fedbus.images.decode import decode_image, stored_mode
from fedbus.images.dicom import decode_dicom
from fedbus.images.dicom_identity import DicomIdentity, read_identity
from fedbus.images.limits import open_regular
from fedbus.images.remarks import VERY_LARGE, remarks_of
from tests.dicoms import jpeg, jpeg_2000, write_compressed, write_dicom, write_rle

GREY = np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8)
ITEM, END_OF_SEQUENCE = struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
UNKNOWN_LENGTH = 0xFFFFFFFF


def parts(path):
    """The file's preamble and meta information, its elements before the patient's id, and the rest."""
    content = path.read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    patient = content.index(b"\x10\x00\x20\x00LO", start)
    return content[:start], content[start:patient], content[patient:]


def long_element(group, element, kind, length):
    return struct.pack("<HH2sHI", group, element, kind, 0, length)


def png_with(path, name, content):
    """A grey PNG with a further chunk."""
    Image.fromarray(GREY).save(path)
    whole = path.read_bytes()
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(whole[:33] + chunk + whole[33:])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return parts(write_dicom(tmp_path_factory.mktemp("plain") / "a.dcm", GREY, PatientID="P1"))


@pytest.fixture(scope="module")
def bomb(tmp_path_factory, plain):
    """A deflated DICOM file of less than a MiB that inflates to 200 MiB."""
    folder = tmp_path_factory.mktemp("bomb")
    size = 200 * 2**20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = [deflate.compress(plain[1] + long_element(0x0009, 0x1010, b"OB", size))]
    content += [deflate.compress(bytes(2**20)) for _ in range(200)]
    content += [deflate.compress(plain[2]), deflate.flush()]
    path = folder / "bomb.dcm"
    path.write_bytes(deflated_meta(folder) + b"".join(content))
    assert path.stat().st_size < 2**20
    return path


def deflated_meta(folder):
    path = write_dicom(folder / "deflated.dcm", GREY, TransferSyntaxUID=uid.DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    return content[: 144 + struct.unpack("<I", content[140:144])[0]]


def test_a_deflated_file_inflates_to_a_limit_only(bomb, monkeypatch):
    monkeypatch.setattr("fedbus.images.dicom_file.MOST_INFLATED_BYTES", 2**23)
    tracemalloc.start()
    try:
        with pytest.raises(
            ImageError, match=r"bomb\.dcm can't be decoded: it inflates to more than 8 MiB.* uncompressed"
        ):
            decode_dicom(bomb)
        assert read_identity(bomb, "x").patient is None
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**23
    finally:
        tracemalloc.stop()


def test_the_limit_on_inflating_leaves_room_for_real_files(bomb):
    assert 2**26 <= limits.MOST_INFLATED_BYTES < 2**28
    with pytest.raises(ImageError, match="inflates to more than 128 MiB"):
        decode_dicom(bomb)


def test_a_deflated_file_is_read_like_any_other(tmp_path):
    tags = {"PatientID": "P1", "WindowCenter": 100, "WindowWidth": 50}
    plain = write_dicom(tmp_path / "a.dcm", GREY, **tags)
    path = write_dicom(tmp_path / "b.dcm", GREY, TransferSyntaxUID=uid.DeflatedExplicitVRLittleEndian, **tags)
    np.testing.assert_array_equal(np.asarray(decode_dicom(path)), np.asarray(decode_dicom(plain)))
    assert read_identity(path, "x") == read_identity(plain, "x") != DicomIdentity()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match=r"b\.dcm can't be decoded"):
        decode_dicom(path)


def test_deep_nesting_is_refused(tmp_path, plain):
    path = tmp_path / "a.dcm"
    level = long_element(0x0008, 0x1140, b"SQ", UNKNOWN_LENGTH) + struct.pack("<HHI", 0xFFFE, 0xE000, UNKNOWN_LENGTH)
    path.write_bytes(plain[0] + plain[1] + 100_000 * level + plain[2])
    with pytest.raises(ImageError, match=r"a\.dcm can't be decoded: its parts are nested too deeply"):
        decode_dicom(path)
    with ThreadPoolExecutor(1) as pool:  # whose stack may be smaller
        assert isinstance(pool.submit(decode_dicom, path).exception(), ImageError)


def test_millions_of_items_are_refused(tmp_path, plain, monkeypatch):
    monkeypatch.setattr("fedbus.images.dicom_file.MOST_READS", 5_000)
    items = long_element(0x0008, 0x1140, b"SQ", UNKNOWN_LENGTH) + 10_000 * ITEM + END_OF_SEQUENCE
    regions = long_element(0x0018, 0x6011, b"SQ", 8 * 60_000) + 60_000 * ITEM
    for name, before, after in (("items.dcm", items, b""), ("regions.dcm", b"", regions)):
        tail = plain[2].replace(b"\x28\x00\x02\x00US", after + b"\x28\x00\x02\x00US", 1)
        (tmp_path / name).write_bytes(plain[0] + plain[1] + before + tail)
        with pytest.raises(ImageError, match=rf"{name} can't be decoded: it has too many .*items"):
            decode_dicom(tmp_path / name)


def test_the_limit_on_inflating_holds_for_damaged_meta_information(tmp_path, plain, monkeypatch):
    """Meta information in implicit VR, as some old programs wrote it."""
    monkeypatch.setattr("fedbus.images.dicom_file.MOST_INFLATED_BYTES", 1000)
    deflated = uid.DeflatedExplicitVRLittleEndian.encode()
    meta = plain[0][:132] + struct.pack("<HHI", 0x0002, 0x0010, len(deflated)) + deflated
    (tmp_path / "a.dcm").write_bytes(meta + zlib.compress(plain[1] + plain[2])[2:-4])
    with pytest.raises(ImageError, match=r"a\.dcm can't be decoded: it inflates to more than"):
        decode_dicom(tmp_path / "a.dcm")


def test_a_stream_of_another_size_than_the_header_is_not_decoded(tmp_path, monkeypatch):
    wide = np.zeros((40, 3000), np.uint8)
    paths = [
        write_compressed(tmp_path / "a.dcm", GREY, uid.JPEGBaseline8Bit, [jpeg(wide)]),
        write_compressed(tmp_path / "b.dcm", GREY, uid.JPEG2000Lossless, [jpeg_2000(wide)]),
        write_compressed(tmp_path / "c.dcm", GREY, uid.RLELossless, [bytes([1, 0, 0, 0, 64]) + bytes(50_000)]),
    ]
    monkeypatch.setattr("fedbus.images.dicom_frame.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    for path in paths:
        with pytest.raises(ImageError, match=rf"{path.name} can't be decoded \(ValueError\)"):
            decode_dicom(path)
    assert write_rle(tmp_path / "d.dcm", GREY).stat().st_size > GREY.size  # noise grows, and is within the bound
    monkeypatch.undo()
    np.testing.assert_array_equal(np.asarray(decode_dicom(tmp_path / "d.dcm")), GREY)


def test_more_frames_than_the_limit_are_refused(tmp_path):
    """It took pydicom three minutes to count 2 147 483 647 of them."""
    for name in ("a.dcm", "b.dcm"):
        path = write_dicom(tmp_path / name, GREY) if name == "a.dcm" else write_rle(tmp_path / name, GREY)
        file = dcmread(path)
        file.NumberOfFrames = 2**31 - 1
        file.save_as(path)
        for frame in (None, 1):
            with pytest.raises(ImageError, match=rf"{name} claims more frames than any scanner makes"):
                decode_dicom(path, frame)


def test_more_fragments_than_the_limit_are_refused(tmp_path):
    path = write_compressed(tmp_path / "a.dcm", GREY, uid.JPEG2000Lossless, [jpeg_2000(GREY)])
    content = path.read_bytes()
    start = content.index(ITEM[:4]) + 8  # after the offset table, which is empty
    path.write_bytes(content[:start] + (limits.MOST_FRAMES + 1) * ITEM + content[start:])
    with pytest.raises(ImageError, match=r"a\.dcm can't be decoded \(ValueError\)"):
        decode_dicom(path)


def segmented_palette(words):
    """Tags of a palette with the same segments of 16-bit words in each colour."""
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(words, dtype="<u2").tobytes()
    return tags


def test_segmented_palettes_expand_to_a_limit_only(tmp_path, monkeypatch):
    ramp = [0, 1, 0, 1, 255, 65535]  # one entry 0, then 255 up to 65535
    image = decode_dicom(write_dicom(tmp_path / "a.dcm", GREY, **segmented_palette(ramp)))
    np.testing.assert_array_equal(np.asarray(image), GREY)
    monkeypatch.setattr("fedbus.images.dicom_palette.apply_color_lut", lambda *_: pytest.fail("expanded"))
    for words in (
        [0, 1, 0, *([1, 65535, 7] * 1000)],  # 65 million entries
        [0, 1, 0, 2, 2, 0, 0],  # a segment that refers to itself
        [0, 1, 0, *([2, 0, 0, 0] * 50)],
    ):
        path = write_dicom(tmp_path / "b.dcm", GREY, **segmented_palette(words))
        with pytest.raises(ImageError, match=r"b\.dcm can't be decoded \(ValueError\)"):
            decode_dicom(path)


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_text_in_a_png_inflates_to_a_limit_only(tmp_path, name):
    start = b"k\0\1\0\0\0" if name == b"iTXt" else b"k\0\0"
    png_with(tmp_path / "a.png", name, start + zlib.compress(bytes(2**26), 9))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"a\.png can't be decoded \(Decompressed data too large"):
            decode_image(tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_large_images_are_decoded_without_a_warning_and_remarked_on(tmp_path, monkeypatch):
    """Pillow warns above 89 million pixels, without the name of the file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    monkeypatch.setattr("fedbus.images.raster.LARGE_PIXELS", 2000)
    monkeypatch.setattr("fedbus.images.dicom.LARGE_PIXELS", 2000)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    write_compressed(tmp_path / "a.dcm", GREY, uid.JPEG2000Lossless, [jpeg_2000(GREY)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.dcm"):
            image = decode_image(tmp_path / name)
            np.testing.assert_array_equal(np.asarray(image), GREY)
            assert remarks_of(image) == (VERY_LARGE,)
        stored_mode(tmp_path / "a.png")


def test_more_pixels_than_the_limit_are_refused_by_name_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST_PIXELS", 2000)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", GREY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.dcm"):
            with pytest.raises(ImageError, match=rf"{name} can't be decoded: it claims more pixels than any scanner"):
                decode_image(tmp_path / name)


def test_one_large_image_is_decoded_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fedbus.images.raster.LARGE_PIXELS", 2000)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    running, most = [], []
    load = Image.Image.convert

    def convert(image, *arguments, **options):
        running.append(None)
        most.append(len(running))
        result = load(image, *arguments, **options)
        running.pop()
        return result

    monkeypatch.setattr(Image.Image, "convert", convert)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode_image, 50 * [tmp_path / "a.png"]))
    assert len(most) == 50
    assert max(most) == 1


@pytest.mark.parametrize("suffix", [".png", ".dcm"])
def test_special_files_are_refused_and_never_block(tmp_path, suffix, monkeypatch):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listener.bind(f"socket{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"link{suffix}").symlink_to(tmp_path / f"pipe{suffix}")
    for name in ("pipe", "socket", "device", "folder", "link"):
        with pytest.raises(ImageError, match=rf"{name}{suffix} is not a regular file\. Remove it"):
            decode_image(tmp_path / f"{name}{suffix}")


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    found = (tmp_path / "a.png").stat()
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    monkeypatch.setattr(type(tmp_path), "stat", lambda *_, **__: found)
    with open_regular(tmp_path / "a.png") as file:
        assert file.read() == b""


def test_files_above_the_limit_are_refused_before_they_are_read(tmp_path):
    for name in ("a.png", "a.dcm"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(limits.MOST_FILE_BYTES + 1)  # sparse: takes no space
        with pytest.raises(ImageError, match=rf"{name} is larger than 1024 MiB"):
            decode_image(tmp_path / name)
    with pytest.raises(ArchiveError, match=r"a\.png is larger than 1024 MiB"):
        build_manifest("x", tmp_path, [(tmp_path / "a.png", "benign", None)])


def test_no_program_is_started_for_a_format_that_is_not_read(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started a program"))
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match=r"a\.png can't be decoded \(not an image of a supported format\)"):
        decode_image(tmp_path / "a.png")
