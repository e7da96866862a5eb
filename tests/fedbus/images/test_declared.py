"""Files that declare how to show them, and files that contain several images: shown so, or remarked on."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from fedbus.errors import ImageError
from fedbus.images.decode import decode_image
from fedbus.images.remarks import COLOUR_PROFILE, NOT_SQUARE, SEVERAL_IMAGES, TRANSPARENT, remarks_of
from tests.archives import make_image

GREY = np.random.default_rng(0).integers(0, 256, (20, 26), dtype=np.uint8)
OTHER = 255 - GREY
ORIENTED = {  # TIFF 6.0 and EXIF: where the first stored row and column are, so what must be undone
    1: GREY,
    2: GREY[:, ::-1],
    3: GREY[::-1, ::-1],
    4: GREY[::-1],
    5: GREY.T,
    6: GREY.T[:, ::-1],
    7: GREY.T[::-1, ::-1],
    8: GREY.T[::-1],
}
"""What each orientation of the stored pixels GREY shows."""


def shown(path):
    image = decode_image(path)
    assert image.mode == "L"
    return np.asarray(image), remarks_of(image)


def save(path, pixels=GREY, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def add_png_chunk(path, name, content):
    whole = path.read_bytes()
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(whole[:33] + chunk + whole[33:])


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data


@pytest.mark.parametrize("orientation", ORIENTED)
def test_images_are_turned_upright(tmp_path, orientation):
    for name, options in (
        ("a.png", {}),
        ("a.tif", {}),
        ("b.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
    ):
        pixels, remarks = shown(save(tmp_path / name, exif=exif(orientation), **options))
        np.testing.assert_array_equal(pixels, ORIENTED[orientation], err_msg=name)
        assert remarks == ()
    smooth = np.add.outer(np.arange(20), 5 * np.arange(26)).astype(np.uint8)
    pixels, _ = shown(save(tmp_path / "a.jpg", smooth, exif=exif(orientation), quality=95))
    save(tmp_path / "b.jpg", smooth, quality=95)
    plain, _ = shown(tmp_path / "b.jpg")
    turned = {1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1], 5: plain.T}
    turned |= {6: plain.T[:, ::-1], 7: plain.T[::-1, ::-1], 8: plain.T[::-1]}
    np.testing.assert_array_equal(pixels, turned[orientation])


def test_damaged_exif_leaves_the_pixels_readable(tmp_path):
    for i, damage in enumerate(
        (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    ):
        path = save(tmp_path / f"{i}.png")
        add_png_chunk(path, b"eXIf", damage[6:])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(shown(path)[0], GREY)
    path = save(tmp_path / "a.png", exif=exif(9))
    np.testing.assert_array_equal(shown(path)[0], GREY)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_several_images_are_never_silently_the_first(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {}
    pixels, remarks = shown(save(tmp_path / name, save_all=True, append_images=[Image.fromarray(OTHER)], **options))
    np.testing.assert_array_equal(pixels, GREY)
    assert remarks == (SEVERAL_IMAGES,)
    assert shown(save(tmp_path / f"b{name}", **options))[1] == ()


def test_a_multi_picture_jpeg_is_remarked_on(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(OTHER)])
    pixels, remarks = shown(tmp_path / "a.jpg")
    assert pixels.shape == GREY.shape
    assert remarks == (SEVERAL_IMAGES,)


def write_tiff_pages(path, pages):
    """Pages of (pixels, tags of TIFF)."""
    images = []
    for pixels, tags in pages:
        image = Image.fromarray(pixels)
        image.encoderinfo = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}
        for tag, value in tags.items():
            image.encoderinfo["tiffinfo"][tag] = value
        images.append(image)
    with path.open("w+b") as file, TiffImagePlugin.AppendingTiffWriter(file) as out:
        for image in images:
            image.save(out, "TIFF", tiffinfo=image.encoderinfo["tiffinfo"])
            out.newFrame()


@pytest.mark.parametrize("thumbnail", [{254: 1}, {254: 4}, {255: 2}])
def test_thumbnails_and_masks_of_a_tiff_are_passed_over(tmp_path, thumbnail):
    small = GREY[::2, ::2]
    for pages in ([(small, thumbnail), (GREY, {})], [(GREY, {}), (small, thumbnail)]):
        write_tiff_pages(tmp_path / "a.tif", pages)
        pixels, remarks = shown(tmp_path / "a.tif")
        np.testing.assert_array_equal(pixels, GREY)
        assert remarks == ()
    write_tiff_pages(tmp_path / "a.tif", [(small, thumbnail), (GREY, {}), (OTHER, {})])
    pixels, remarks = shown(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels, GREY)
    assert remarks == (SEVERAL_IMAGES,)


def test_inverted_tiff_and_cmyk_are_shown_as_they_look(tmp_path):
    path = save(tmp_path / "a.tif")
    content = path.read_bytes()
    black_is_zero, white_is_zero = (struct.pack("<HHII", 262, 3, 1, value) for value in (1, 0))
    assert content.count(black_is_zero) == 1
    path.write_bytes(content.replace(black_is_zero, white_is_zero))
    np.testing.assert_array_equal(shown(path)[0], OTHER)
    for name, tolerance in (("b.tif", 0), ("b.jpg", 2)):
        smooth = np.add.outer(np.arange(20), 5 * np.arange(26)).astype(np.uint8)
        Image.fromarray(smooth).convert("CMYK").save(tmp_path / name, quality=100)
        assert np.abs(shown(tmp_path / name)[0].astype(int) - smooth).max() <= tolerance


def test_transparency_is_remarked_on_only_where_there_is_some(tmp_path):
    image = Image.fromarray(GREY).convert("RGBA")
    image.save(tmp_path / "opaque.png")
    assert shown(tmp_path / "opaque.png")[1] == ()
    image.putpixel((3, 4), (9, 9, 9, 100))
    for name in ("a.png", "a.tif"):
        image.save(tmp_path / name)
        assert shown(tmp_path / name)[1] == (TRANSPARENT,)
    Image.fromarray(GREY).save(tmp_path / "key.png", transparency=int(GREY[0, 0]))
    pixels, remarks = shown(tmp_path / "key.png")
    np.testing.assert_array_equal(pixels, GREY)
    assert remarks == (TRANSPARENT,)
    Image.fromarray(GREY).convert("P").save(tmp_path / "palette.gif", transparency=int(GREY[0, 0]))
    assert shown(tmp_path / "palette.gif")[1] == (TRANSPARENT,)


def test_colour_profiles_and_gamma_are_remarked_on(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for name in ("a.png", "a.jpg", "a.tif"):
        colour = Image.fromarray(GREY).convert("RGB")
        colour.save(tmp_path / name, icc_profile=srgb)
        assert shown(tmp_path / name)[1] == ()
        colour.save(tmp_path / name, icc_profile=lab)
        assert shown(tmp_path / name)[1] == (COLOUR_PROFILE,)
    for gamma, expected in ((45455, ()), (100000, (COLOUR_PROFILE,))):
        path = save(tmp_path / "g.png")
        add_png_chunk(path, b"gAMA", struct.pack(">I", gamma))
        pixels, remarks = shown(path)
        np.testing.assert_array_equal(pixels, GREY)
        assert remarks == expected
    add_png_chunk(path, b"sRGB", b"\0")  # takes precedence over gamma
    assert shown(path)[1] == ()


def test_pixels_that_are_not_square_are_remarked_on(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif"):
        assert shown(save(tmp_path / name, dpi=(72, 72)))[1] == ()
        assert shown(save(tmp_path / name, dpi=(72, 144)))[1] == (NOT_SQUARE,)


def test_deep_colour_is_refused_in_every_format(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 4095\n" + bytes(8))
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "a.jp2")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jp2")
    content = (tmp_path / "b.jp2").read_bytes()
    sizes = content.index(b"\xff\x4f\xff\x51") + 42
    (tmp_path / "b.jp2").write_bytes(content[:sizes] + b"\x0b\1\1" * 3 + content[sizes + 9 :])  # 12 bits each
    for name in ("a.ppm", "a.pgm", "a.tif", "a.jp2", "b.jp2"):
        with pytest.raises(ImageError, match=rf"{name} has more than 8 bits per channel"):
            decode_image(tmp_path / name)


def test_shallow_and_packed_images_are_not_taken_for_deep(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 100\n" + bytes([0, 100]))
    np.testing.assert_array_equal(shown(tmp_path / "a.pgm")[0], [[0, 255]])
    header = struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66) + struct.pack(
        "<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 1, 1, 0, 0
    )
    masks, pixels = struct.pack("<III", 0xF800, 0x07E0, 0x001F), struct.pack("<HH", 0xFFFF, 0)
    (tmp_path / "a.bmp").write_bytes(header + masks + pixels)
    np.testing.assert_array_equal(shown(tmp_path / "a.bmp")[0], [[255, 0]])


def test_signed_grey_is_refused(tmp_path):
    save(tmp_path / "a.tif", tiffinfo={339: 2})
    with pytest.raises(ImageError, match=r"a\.tif has signed grey levels"):
        decode_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".gif", ".webp", ".jp2", ".pgm"])
def test_damage_in_any_format_raises_nothing_but_image_errors(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    options = {"exif": exif(6), "dpi": (72, 73)} if suffix in (".png", ".jpg", ".tif", ".webp") else {}
    make_image(np.random.default_rng(1), (24, 20)).save(path, **options)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    refused = []
    for i in range(120):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole) if i % 2 else 100, 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged[: generator.integers(1, len(damaged))] if i % 4 == 0 else damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert decode_image(path).mode == "L"
            except ImageError as error:
                refused.append(error.problem)
    assert len(refused) > 20
    assert all(str(path) in problem for problem in refused)


def test_truncated_files_are_refused(tmp_path):
    for suffix in (".gif", ".webp", ".jp2", ".pgm"):
        path = save(tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
        with pytest.raises(ImageError, match=rf"a\{suffix} can't be decoded"):
            decode_image(path)
