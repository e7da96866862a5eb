"""DICOM files that declare how to show them, and that contain several images: shown so, or remarked on."""

import numpy as np
import pytest
from PIL import ImageCms
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from fedbus.errors import ImageError
from fedbus.images.dicom import decode_dicom
from fedbus.images.remarks import (
    COLOUR_PROFILE,
    JOINED_REGIONS,
    LARGEST_REGION,
    NOT_SQUARE,
    OVERLAYS,
    SEVERAL_FRAMES,
    SEVERAL_WINDOWS,
    remarks_of,
)
from tests.dicoms import region, write_dicom

GREY = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
DEEP = np.random.default_rng(0).integers(300, 4000, (60, 90), dtype=np.uint16)
SIGNED = DEEP.astype(np.int16)


def shown(path, frame=None):
    image = decode_dicom(path, frame)
    return np.asarray(image), remarks_of(image)


def spread(values):
    low, high = int(values.min()), int(values.max())
    return np.rint((values.astype(float) - low) * (255 / (high - low)))


LEFT, RIGHT = (0, 5, 43, 54), (46, 5, 89, 54)


@pytest.mark.parametrize(
    ("regions", "kept", "remarks"),
    [
        ([region(LEFT), region(RIGHT)], (0, 5, 90, 55), [JOINED_REGIONS]),
        ([region(RIGHT), region(LEFT)], (0, 5, 90, 55), [JOINED_REGIONS]),
        ([region((0, 0, 89, 29)), region((0, 30, 89, 59))], (0, 0, 90, 60), [JOINED_REGIONS]),
        ([region(LEFT), region((50, 5, 88, 52))], (0, 5, 89, 55), [JOINED_REGIONS]),
        ([region(LEFT), region(LEFT)], (0, 5, 44, 55), []),
        ([region(LEFT, kind=2), region(RIGHT)], (46, 5, 90, 55), [LARGEST_REGION]),
        ([region((20, 20, 40, 40), kind=2), region(LEFT)], (0, 5, 44, 55), []),
        ([region(LEFT, kind=2), region(RIGHT, kind=2)], (0, 5, 90, 55), [JOINED_REGIONS]),
        ([region(LEFT), region((50, 5, 69, 24))], (0, 5, 44, 55), [LARGEST_REGION]),
        ([region(LEFT), region((5, 8, 30, 30))], (0, 5, 44, 55), []),
        ([region(LEFT), region(RIGHT), region((0, 55, 20, 59))], (0, 5, 90, 55), [JOINED_REGIONS]),
        ([region((0, 0, 40, 25)), region((45, 0, 89, 25)), region((0, 30, 40, 59)), region((45, 30, 89, 59))],
         (0, 0, 90, 60), [JOINED_REGIONS]),
        ([region(LEFT), region((46, 5, 300, 54))], (0, 5, 44, 55), []),
    ],
)  # fmt: skip
def test_regions_of_equal_rank_are_all_kept(tmp_path, regions, kept, remarks):
    left, upper, right, lower = kept
    path = write_dicom(tmp_path / "a.dcm", GREY, SequenceOfUltrasoundRegions=Sequence(regions))
    pixels, found = shown(path)
    np.testing.assert_array_equal(pixels, GREY[upper:lower, left:right])
    assert list(found) == remarks


def test_dual_views_with_one_empty_half_are_not_copies(tmp_path):
    generator = np.random.default_rng(1)
    images = []
    for name in ("a.dcm", "b.dcm"):
        pixels = np.hstack([np.full((60, 45), 20, np.uint8), generator.integers(0, 256, (60, 45), dtype=np.uint8)])
        tags = {"SequenceOfUltrasoundRegions": Sequence([region((0, 0, 44, 59)), region((45, 0, 89, 59))])}
        images.append(shown(write_dicom(tmp_path / name, pixels, **tags))[0])
        np.testing.assert_array_equal(images[-1], pixels)
    assert (images[0] != images[1]).any()


def test_padding_does_not_count_and_is_black(tmp_path):
    for stored, padding in ((DEEP, 0), (DEEP, 4095), (SIGNED, -2000)):
        pixels = stored.copy()
        pixels[:, :20] = padding
        for colours, expected in (("MONOCHROME2", spread(stored[:, 20:])), ("MONOCHROME1", None)):
            tags = {"BitsStored": 12 if padding > -1 else 16, "PhotometricInterpretation": colours}
            image, _ = shown(write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=padding, **tags))
            assert not image[:, :20].any()
            whole, _ = shown(write_dicom(tmp_path / "b.dcm", stored[:, 20:].copy(), **tags))
            np.testing.assert_array_equal(image[:, 20:], whole)
            if expected is not None:
                np.testing.assert_array_equal(whole, expected)


def test_a_range_of_padding_and_an_image_of_nothing_else(tmp_path):
    pixels = DEEP.copy()
    pixels[:10] = np.arange(90)
    image, _ = shown(write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=0, PixelPaddingRangeLimit=100))
    np.testing.assert_array_equal(image, np.vstack([np.zeros((10, 90)), spread(DEEP[10:])]))
    assert not shown(write_dicom(tmp_path / "b.dcm", np.full((20, 20), 7, np.uint16), PixelPaddingValue=7))[0].any()


@pytest.mark.parametrize(
    ("tags", "inverted"),
    [
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"RescaleSlope": -1, "RescaleIntercept": 255}, True),
        ({"RescaleSlope": 2, "RescaleIntercept": 1}, False),
        ({"RescaleSlope": -1, "RescaleIntercept": 0, "PhotometricInterpretation": "MONOCHROME1"}, False),
    ],
)
def test_an_image_is_inverted_as_often_as_it_declares(tmp_path, tags, inverted):
    pixels, _ = shown(write_dicom(tmp_path / "a.dcm", GREY, **tags))
    np.testing.assert_array_equal(pixels, 255 - GREY if inverted else GREY)


def test_overlays_are_not_drawn_and_remarked_on(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12)
    expected, remarks = shown(path)
    assert remarks == ()
    file = dcmread(path)
    file.add_new(0x60000010, "US", 60)
    file.add_new(0x60000011, "US", 90)
    file.add_new(0x60000102, "US", 0)
    file.add_new(0x60003000, "OW", b"\xff" * 676)
    file.save_as(tmp_path / "b.dcm")
    pixels, remarks = shown(tmp_path / "b.dcm")
    np.testing.assert_array_equal(pixels, expected)
    assert remarks == (OVERLAYS,)


def test_an_overlay_in_the_bits_above_the_values_does_not_disturb_them(tmp_path):
    """As up to 2004, and still in old archives."""
    plain, _ = shown(write_dicom(tmp_path / "a.dcm", DEEP, BitsStored=12))
    drawn = DEEP.copy()
    drawn[10:20] |= 0x8000
    file = dcmread(write_dicom(tmp_path / "b.dcm", drawn, BitsStored=12))
    file.add_new(0x60020010, "US", 60)
    file.add_new(0x60020102, "US", 15)
    file.save_as(tmp_path / "b.dcm")
    pixels, remarks = shown(tmp_path / "b.dcm")
    np.testing.assert_array_equal(pixels, plain)
    assert remarks == (OVERLAYS,)


def test_of_several_windows_the_first_is_used_and_remarked_on(tmp_path):
    one = write_dicom(tmp_path / "a.dcm", GREY, WindowCenter=100, WindowWidth=50)
    same = write_dicom(tmp_path / "b.dcm", GREY, WindowCenter=[100, 100], WindowWidth=[50, 50])
    two = write_dicom(tmp_path / "c.dcm", GREY, WindowCenter=[100, 90], WindowWidth=[50, 50])
    assert shown(one)[1] == shown(same)[1] == ()
    pixels, remarks = shown(two)
    np.testing.assert_array_equal(pixels, shown(one)[0])
    assert remarks == (SEVERAL_WINDOWS,)


def test_of_several_tables_the_first_is_used_and_remarked_on(tmp_path):
    tables = []
    for entries in (range(255, -1, -1), range(256)):
        tables.append(Dataset())
        tables[-1].LUTDescriptor, tables[-1].LUTData = [256, 0, 8], bytes(entries)
        tables[-1]["LUTData"].VR = "OW"
    pixels, remarks = shown(write_dicom(tmp_path / "a.dcm", GREY, VOILUTSequence=Sequence(tables)))
    np.testing.assert_array_equal(pixels, 255 - GREY)
    assert remarks == (SEVERAL_WINDOWS,)
    assert shown(write_dicom(tmp_path / "b.dcm", GREY, VOILUTSequence=Sequence(tables[:1])))[1] == ()


def groups(**elements):
    """Functional groups with one item each."""
    item = Dataset()
    for name, values in elements.items():
        group = Dataset()
        for tag, value in values.items():
            setattr(group, tag, value)
        setattr(item, name, Sequence([group]))
    return item


def test_each_frame_of_an_enhanced_file_has_its_own_window(tmp_path):
    """Expected: the same frame as a file of its own, with its window and rescaling at the top."""
    frames = np.stack([DEEP, DEEP[::-1]])
    shared = {"PixelValueTransformationSequence": {"RescaleSlope": 2, "RescaleIntercept": -100}}
    windows = [{"WindowCenter": 2000, "WindowWidth": 900}, {"WindowCenter": 5000, "WindowWidth": 3000}]
    path = write_dicom(
        tmp_path / "a.dcm",
        frames,
        BitsStored=12,
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=Sequence([groups(**shared)]),
        PerFrameFunctionalGroupsSequence=Sequence([groups(FrameVOILUTSequence=window) for window in windows]),
    )
    for i in range(2):
        tags = shared["PixelValueTransformationSequence"] | windows[i]
        alone, _ = shown(write_dicom(tmp_path / "b.dcm", frames[i], BitsStored=12, **tags))
        np.testing.assert_array_equal(shown(path, i + 1)[0], alone)
        assert 0 < alone.mean() < 255


def test_colour_profiles_are_remarked_on(tmp_path):
    for space, expected in (("sRGB", ()), ("LAB", (COLOUR_PROFILE,))):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
        path = write_dicom(
            tmp_path / "a.dcm", np.dstack([GREY, GREY, GREY]), ICCProfile=profile + b"\0" * (len(profile) % 2)
        )
        pixels, remarks = shown(path)
        np.testing.assert_array_equal(pixels, GREY)
        assert remarks == expected


def test_several_frames_are_remarked_on_unless_one_is_named(tmp_path):
    frames = np.random.default_rng(2).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=5)
    pixels, remarks = shown(path)
    np.testing.assert_array_equal(pixels, frames[2])
    assert remarks == (SEVERAL_FRAMES,)
    assert shown(path, 4)[1] == ()
    path = write_dicom(tmp_path / "b.dcm", frames, NumberOfFrames=5, RepresentativeFrameNumber=5)
    np.testing.assert_array_equal(shown(path)[0], frames[4])
    path = write_dicom(tmp_path / "c.dcm", frames, NumberOfFrames=5, RepresentativeFrameNumber=6)
    np.testing.assert_array_equal(shown(path)[0], frames[2])


def test_pixels_that_are_not_square_are_remarked_on(tmp_path):
    for tags, expected in (
        ({"PixelAspectRatio": [1, 1]}, ()),
        ({"PixelAspectRatio": [4, 3]}, (NOT_SQUARE,)),
        ({"PixelSpacing": [0.1, 0.1]}, ()),
        ({"PixelSpacing": [0.1, 0.2]}, (NOT_SQUARE,)),
    ):
        assert shown(write_dicom(tmp_path / "a.dcm", GREY, **tags))[1] == expected


def test_an_icon_is_never_taken_for_the_image(tmp_path):
    icon = dcmread(write_dicom(tmp_path / "icon.dcm", GREY[:16, :16].copy()))
    del icon.SOPClassUID
    path = write_dicom(tmp_path / "a.dcm", GREY, IconImageSequence=Sequence([icon]))
    np.testing.assert_array_equal(shown(path)[0], GREY)
    file = dcmread(path)
    del file.PixelData
    file.save_as(tmp_path / "b.dcm")
    with pytest.raises(ImageError, match=r"b\.dcm contains no image"):
        decode_dicom(tmp_path / "b.dcm")


def test_damaged_declarations_leave_the_pixels_readable(tmp_path):
    tags = {
        "PixelAspectRatio": [9, 9],
        "PixelSpacing": [9, 9],
        "RepresentativeFrameNumber": 99,
        "PresentationLUTShape": "IDENTITY",
        "PixelPaddingValue": 999,
    }
    path = write_dicom(tmp_path / "a.dcm", GREY, **tags)
    content = path.read_bytes()
    for start in (b"\x28\x00\x34\x00IS", b"\x28\x00\x30\x00DS", b"\x28\x00\x10\x60US", b"\x28\x00\x20\x01US"):
        for damage in (b"\xff\xff\xff", b"x\\z", b"\0\0\0"):
            if start[-2:] == b"US":
                damaged = content.replace(start, start[:-2] + b"IS")  # another kind of value than the standard's
                assert damaged != content
            else:
                place = content.index(start) + 8
                damaged = content[:place] + damage + content[place + 3 :]
            (tmp_path / "b.dcm").write_bytes(damaged)
            np.testing.assert_array_equal(shown(tmp_path / "b.dcm")[0], GREY)
