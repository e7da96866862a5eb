"""An image file to grey pixels, or an error that names the file."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.errors import ImageError
from fedbus.images.decode import decode_image, resize_image, split_frame, stored_mode
from fedbus.images.file_kind import RASTER_SUFFIXES
from tests.archives import make_image
from tests.dicoms import write_dicom


def write_png(path, bits, colour_type, size, data):
    """A PNG of any bit depth, which Pillow itself can't write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.fixture
def grey():
    return make_image(np.random.default_rng(0))


@pytest.mark.parametrize("suffix", [s for s in RASTER_SUFFIXES if not s.startswith((".jpe", ".jpg", ".jf"))])
def test_grey_is_kept_exactly(tmp_path, grey, suffix):
    grey.save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    image = decode_image(tmp_path / f"a{suffix}")
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(grey))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_as_colour_is_kept_exactly(tmp_path, grey, mode):
    grey.convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == mode
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "a.png")), np.asarray(grey))


def test_colour_is_reduced_by_luma(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(np.asarray(decode_image(tmp_path / "a.png")) - expected).max() <= 0.51


def test_transparency_is_dropped_not_blended(tmp_path, grey):
    clear = grey.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "a.png")), np.asarray(grey))


def test_a_palette_is_resolved(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "a.png")), [[10, 200]])


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(decode_image(tmp_path / "a.png")), [[0, 255]])


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_per_channel_are_refused_not_truncated(tmp_path, colour_type, channels):
    line = b"\0" + bytes(range(2 * 4 * channels))
    write_png(tmp_path / "a.png", 16, colour_type, (4, 3), line * 3)
    with pytest.raises(ImageError, match=r"a\.png has more than 8 bits per channel.* 8-bit"):
        decode_image(tmp_path / "a.png")


def test_float_images_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="more than 8 bits"):
        decode_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_truncated_images_are_refused(tmp_path, grey, suffix):
    path = tmp_path / f"a{suffix}"
    grey.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"can't be decoded.*Fetch the file again") as caught:
        decode_image(path)
    assert str(path) in caught.value.problem


def test_empty_missing_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    for name, message in (
        ("empty.png", "is an empty file"),
        ("text.png", "can't be decoded"),
        ("gone.png", "does not exist"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            decode_image(tmp_path / name)
        assert name in caught.value.problem


def test_a_header_that_claims_a_monstrous_size_is_refused(tmp_path):
    write_png(tmp_path / "a.png", 8, 0, (60_000, 60_000), b"\0")
    with pytest.raises(ImageError, match="can't be decoded"):
        decode_image(tmp_path / "a.png")


def test_no_damage_raises_anything_but_image_errors(tmp_path, grey):
    path = tmp_path / "a.png"
    grey.save(path)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(ImageError):
            assert decode_image(path).mode == "L"


def test_resize_gives_a_square_and_keeps_a_constant():
    pixels = resize_image(Image.new("L", (300, 224), 77), 96)
    assert pixels.shape == (96, 96)
    assert pixels.dtype == np.uint8
    assert (pixels == 77).all()


def test_resize_averages_over_whole_blocks():
    checkers = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((8, 8))) * 200
    small = resize_image(Image.fromarray(checkers.astype(np.uint8)), 8)
    np.testing.assert_allclose(small.mean(), 100, atol=2)
    assert abs(int(resize_image(make_image(np.random.default_rng(0), (512, 512)), 8).mean()) - 127) <= 2


def test_real_images_with_transparency_decode(shared_data):
    paths = sorted((shared_data / "BUS-UCLM" / "images").glob("HESN_*.png"))
    assert len(paths) == 13
    for path in paths:
        with Image.open(path) as stored:
            assert stored.mode == "RGBA"
            red = np.asarray(stored)[..., 0]
        pixels = np.asarray(decode_image(path))
        assert pixels.shape == red.shape
        assert pixels.std() > 10


def test_only_the_path_of_a_dicom_file_has_a_frame():
    assert split_frame(Path("a/scan.dcm#12")) == (Path("a/scan.dcm"), 12)
    assert split_frame(Path("a/SCAN.DCM#3")) == (Path("a/SCAN.DCM"), 3)
    assert split_frame(Path("a/IM0001#3")) == (Path("a/IM0001"), 3)
    assert split_frame(Path("1.2.840.5#3")) == (Path("1.2.840.5"), 3)
    for name in (
        "a/scan.dcm",
        "a/scan.png#12",
        "a/SCAN.JPG#1",
        "a/scan#12.dcm",
        "scan.dcm#1/b.png",
        "scan.dcm#",
        "scan.dcm#1a",
    ):
        assert split_frame(Path(name)) == (Path(name), None)


def test_dicom_and_other_files_are_decoded_differently(tmp_path, grey):
    frames = np.stack([np.asarray(grey), 255 - np.asarray(grey)])
    path = write_dicom(tmp_path / "A.DCM", frames, NumberOfFrames=2)
    grey.convert("RGB").save(tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(decode_image(path)), frames[0])
    np.testing.assert_array_equal(np.asarray(decode_image(Path(f"{path}#2"))), frames[1])
    assert [stored_mode(p) for p in (path, Path(f"{path}#2"), tmp_path / "b.png")] == ["DICOM", "DICOM", "RGB"]
