"""DICOM files to grey pixels: every coding against the array that was written, regions, frames, faults, privacy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

from fedbus.errors import ImageError
from fedbus.images.decode import decode_image
from fedbus.images.dicom import decode_dicom
from fedbus.images.dicom_identity import read_identity
from tests.dicoms import jpeg, jpeg_2000, lossless_jpeg, region, write_compressed, write_dicom, write_rle

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (40, 52), dtype=np.uint8)
DEEP = GENERATOR.integers(0, 4096, (40, 52), dtype=np.uint16)
COLOUR = GENERATOR.integers(0, 256, (40, 52, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(40), 3 * np.arange(52)).astype(np.uint8)
SECRET = "MRN-0815-Musterfrau"


def decoded(path, frame=None):
    image = decode_dicom(path, frame)
    assert image.mode == "L"
    return np.asarray(image)


def luma(colours):
    """ITU-R 601, on 8-bit RGB."""
    return np.asarray(colours, dtype=float) @ np.array([0.299, 0.587, 0.114])


def full_range_ybr(colours):
    """RGB to YBR_FULL by the matrix of PS3.3, C.7.6.3.1.2."""
    matrix = [[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5000], [0.5000, -0.4187, -0.0813]]
    return np.clip(np.rint(colours @ np.transpose(matrix) + [0, 128, 128]), 0, 255).astype(np.uint8)


def lossless_files(folder):
    """Files of every lossless coding, with the image that each must give."""
    spread = np.rint((DEEP - DEEP.min()) * (255 / (int(DEEP.max()) - int(DEEP.min()))))
    deep = {"BitsStored": 12}
    compressed = write_compressed
    return {
        **{name: (write_dicom(folder / name, GREY, TransferSyntaxUID=syntax), GREY) for name, syntax in {
            "explicit.dcm": uid.ExplicitVRLittleEndian, "implicit.dcm": uid.ImplicitVRLittleEndian,
            "deflated.dcm": uid.DeflatedExplicitVRLittleEndian,
        }.items()},
        "deep": (write_dicom(folder / "d.dcm", DEEP, **deep), spread),
        "rle": (write_rle(folder / "r.dcm", GREY), GREY),
        "rle deep": (write_rle(folder / "rd.dcm", DEEP, **deep), spread),
        "lossless": (compressed(folder / "l.dcm", GREY, uid.JPEGLosslessSV1, [lossless_jpeg(GREY)]), GREY),
        "lossless 14": (compressed(folder / "l14.dcm", GREY, uid.JPEGLossless, [lossless_jpeg(GREY)]), GREY),
        "2000": (compressed(folder / "j.dcm", GREY, uid.JPEG2000Lossless, [jpeg_2000(GREY)]), GREY),
        "2000 deep": (compressed(folder / "jd.dcm", DEEP << 4, uid.JPEG2000Lossless, [jpeg_2000(DEEP << 4)]), spread),
    }  # fmt: skip


def test_lossless_grey_is_exact(tmp_path):
    files = lossless_files(tmp_path)
    assert len(files) == 10
    for name, (path, expected) in files.items():
        np.testing.assert_array_equal(decoded(path), expected, err_msg=name)


def test_lossless_colour_is_reduced_by_luma(tmp_path):
    expected = np.asarray(Image.fromarray(COLOUR).convert("L"))
    assert np.abs(expected - luma(COLOUR)).max() <= 0.51
    planes = write_dicom(tmp_path / "planes.dcm", COLOUR, PlanarConfiguration=1)
    file = dcmread(planes)
    file.PixelData = np.ascontiguousarray(np.moveaxis(COLOUR, 2, 0)).tobytes()
    file.save_as(planes)
    stream = lossless_jpeg(COLOUR)
    for path in (
        write_dicom(tmp_path / "a.dcm", COLOUR),
        planes,
        write_rle(tmp_path / "b.dcm", COLOUR),
        write_compressed(tmp_path / "c.dcm", COLOUR, uid.JPEGLosslessSV1, [stream]),
        write_compressed(
            tmp_path / "d.dcm", COLOUR, uid.JPEG2000Lossless, [jpeg_2000(COLOUR)], PhotometricInterpretation="YBR_RCT"
        ),
    ):
        np.testing.assert_array_equal(decoded(path), expected, err_msg=path.name)


def test_ybr_is_converted_by_the_standards_formula(tmp_path):
    """Only Y is the luma, so grey must come out as Y where no channel is clipped."""
    ybr = full_range_ybr(COLOUR)
    full = write_dicom(tmp_path / "a.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(decoded(full) - luma(COLOUR)).max() <= 1.5
    lossless = write_compressed(
        tmp_path / "b.dcm", ybr, uid.JPEGLosslessSV1, [lossless_jpeg(ybr)], PhotometricInterpretation="YBR_FULL"
    )
    np.testing.assert_array_equal(decoded(lossless), decoded(full))

    even = np.repeat(COLOUR[:, ::2], 2, axis=1)  # pairs of equal pixels lose nothing when their chroma is shared
    ybr = full_range_ybr(even)
    halved = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    path = write_dicom(tmp_path / "c.dcm", even, PhotometricInterpretation="YBR_FULL_422")
    file = dcmread(path)
    file.PixelData = halved.tobytes()
    file.save_as(path)
    assert np.abs(decoded(path) - luma(even)).max() <= 1.5


def test_lossy_images_are_close(tmp_path):
    grey = write_compressed(tmp_path / "g.dcm", SMOOTH, uid.JPEGBaseline8Bit, [jpeg(SMOOTH, quality=95)])
    wide = write_compressed(tmp_path / "e.dcm", SMOOTH, uid.JPEGExtended12Bit, [jpeg(SMOOTH, quality=95)])
    waves = write_compressed(
        tmp_path / "w.dcm", SMOOTH, uid.JPEG2000, [jpeg_2000(SMOOTH, irreversible=True, quality_layers=[4])]
    )
    smooth = np.stack([SMOOTH // 2 + 60, SMOOTH // 3 + 40, 200 - SMOOTH // 2], axis=-1).astype(np.uint8)
    for path in (grey, wide, waves):
        assert np.abs(decoded(path).astype(float) - SMOOTH)[:, :51].mean() < 4, path.name
    for name, sampling in (("YBR_FULL", 0), ("YBR_FULL_422", 1)):
        stream = jpeg(smooth, quality=95, subsampling=sampling)
        path = write_compressed(
            tmp_path / f"{name}.dcm", smooth, uid.JPEGBaseline8Bit, [stream], PhotometricInterpretation=name
        )
        assert np.abs(decoded(path) - luma(smooth)).mean() < 3, name
    untransformed = jpeg(smooth, quality=95, keep_rgb=True)
    path = write_compressed(tmp_path / "rgb.dcm", smooth, uid.JPEGBaseline8Bit, [untransformed])
    assert np.abs(decoded(path) - luma(smooth)).mean() < 3


def test_frames_are_counted_from_one_and_the_middle_is_the_default(tmp_path):
    for count, middle in ((1, 1), (4, 2), (5, 3)):
        frames = GENERATOR.integers(0, 256, (count, 20, 30), dtype=np.uint8)
        plain = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=count)
        coded = write_compressed(
            tmp_path / "b.dcm", frames, uid.JPEGLosslessSV1, list(map(lossless_jpeg, frames)), NumberOfFrames=count
        )
        for path in (plain, coded):
            for i in range(count):
                np.testing.assert_array_equal(decoded(path, i + 1), frames[i])
                np.testing.assert_array_equal(np.asarray(decode_image(Path(f"{path}#{i + 1}"))), frames[i])
            np.testing.assert_array_equal(decoded(path), frames[middle - 1])
            for absent in (0, count + 1):
                with pytest.raises(ImageError, match=rf"{path} has no frame {absent}\. Count frames from 1"):
                    decode_dicom(path, absent)


@pytest.mark.parametrize(
    ("regions", "kept"),
    [
        ([], (0, 0, 52, 40)),
        ([region((5, 3, 44, 30))], (5, 3, 45, 31)),
        ([region((0, 0, 51, 39))], (0, 0, 52, 40)),
        ([region((0, 0, 20, 20)), region((5, 3, 44, 30)), region((20, 20, 40, 36))], (5, 3, 45, 31)),
        ([region((0, 0, 51, 39), kind=2), region((5, 3, 44, 30))], (5, 3, 45, 31)),
        ([region((0, 0, 51, 39), kind=10, space=3), region((4, 2, 44, 30), kind=2)], (4, 2, 45, 31)),
        ([region((0, 0, 30, 30), kind=10, space=4)], (0, 0, 52, 40)),
        ([region((5, 3, 52, 40))], (5, 3, 52, 40)),
        ([region((5, 3, 104, 80))], (0, 0, 52, 40)),
        ([region((60, 3, 90, 30))], (0, 0, 52, 40)),
        ([region((30, 3, 10, 30))], (0, 0, 52, 40)),
        ([region((5, 3, 19, 30))], (0, 0, 52, 40)),
        ([region((5, 3, None, 30))], (0, 0, 52, 40)),
        ([Dataset()], (0, 0, 52, 40)),
    ],
)
def test_the_largest_region_of_tissue_is_kept(tmp_path, regions, kept):
    left, upper, right, lower = kept
    tags = {"SequenceOfUltrasoundRegions": Sequence(regions)}
    grey = write_dicom(tmp_path / "a.dcm", GREY, **tags)
    np.testing.assert_array_equal(decoded(grey), GREY[upper:lower, left:right])
    colour = write_dicom(tmp_path / "b.dcm", COLOUR, **tags)
    assert np.abs(decoded(colour) - luma(COLOUR[upper:lower, left:right])).max() <= 0.51


def test_deep_images_are_spread_after_cropping(tmp_path):
    """Burned-in white text beside the region must not darken it."""
    pixels = np.full((40, 52), 4095, dtype=np.uint16)
    pixels[3:31, 5:45] = np.linspace(100, 300, 28 * 40).reshape(28, 40)
    path = write_dicom(
        tmp_path / "a.dcm", pixels, BitsStored=12, SequenceOfUltrasoundRegions=Sequence([region((5, 3, 44, 30))])
    )
    assert decoded(path).shape == (28, 40)
    assert (decoded(path).min(), decoded(path).max()) == (0, 255)


def test_threads_decode_the_same_pixels(tmp_path):
    files = lossless_files(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for (name, (_, expected)), image in zip(
            4 * list(files.items()), pool.map(decode_dicom, [p for p, _ in 4 * list(files.values())]), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(image), expected, err_msg=name)


@pytest.mark.parametrize(
    ("name", "size"),
    [("examples_palette.dcm", None), ("examples_ybr_color.dcm", (320, 240)), ("examples_jpeg2k.dcm", (640, 480))],
)
def test_real_ultrasound_files_decode(name, size):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    image = decode_dicom(Path(path))
    file = dcmread(path)
    assert image.size == (size or (file.Columns, file.Rows))
    frames = file.pixel_array if file.get("NumberOfFrames") else file.pixel_array[None]
    assert np.asarray(image).std() > 10
    if file.PhotometricInterpretation.startswith("YBR"):  # pixel_array gives RGB here
        expected = luma(frames[(len(frames) - 1) // 2])
        assert np.abs(np.asarray(image) - expected).max() <= 1


def test_no_damage_raises_anything_but_image_errors(tmp_path):
    generator, refused = np.random.default_rng(0), 0
    sources = [path.read_bytes() for path, _ in lossless_files(tmp_path).values()]
    damaged_file = tmp_path / "damaged.dcm"
    for i in range(300):
        damaged = bytearray(sources[i % len(sources)])
        for place in generator.integers(0, len(damaged) if i % 2 else 400, 4):
            damaged[place] = generator.integers(0, 256)
        damaged_file.write_bytes(damaged[: generator.integers(100, len(damaged))] if i % 5 == 0 else damaged)
        read_identity(damaged_file, "x")
        try:
            assert decode_dicom(damaged_file).mode == "L"
        except ImageError:
            refused += 1
    assert 50 < refused < 300
