"""Stored values to 8-bit grey against the standard's formulas, written out here again."""

import math

import numpy as np
import pytest
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence

from fedbus.images.dicom_grey import to_grey

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def shown(stored, **tags):
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    bits = 8 if stored.dtype.itemsize == 1 else 12
    defaults = {"PhotometricInterpretation": "MONOCHROME2", "BitsStored": bits, "PixelRepresentation": 0}
    for name, value in (defaults | tags).items():
        setattr(header, name, value)
    image = to_grey(stored, header)
    assert image.mode == "L"
    return np.asarray(image)


def table(descriptor, data):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = descriptor, data
    return Sequence([item])


def linear(x, centre, width):
    """PS3.3, C.11.2.1.2.1, pseudo-code, for an output range of 0 to 255."""
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0
    if x > centre - 0.5 + (width - 1) / 2:
        return 255
    return ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255


def linear_exact(x, centre, width):
    """PS3.3, C.11.2.1.3.2."""
    if x <= centre - width / 2:
        return 0
    if x > centre + width / 2:
        return 255
    return ((x - centre) / width + 0.5) * 255


def sigmoid(x, centre, width):
    """PS3.3, C.11.2.1.3.1."""
    return 255 / (1 + math.exp(-4 * (x - centre) / width))


def test_eight_bits_are_shown_as_stored():
    np.testing.assert_array_equal(shown(RAMP), RAMP)
    np.testing.assert_array_equal(shown(RAMP, RescaleSlope=2, RescaleIntercept=-5), RAMP)
    np.testing.assert_array_equal(shown(RAMP % 16, BitsStored=4), RAMP % 16 * 17)


def test_monochrome1_is_inverted():
    np.testing.assert_array_equal(shown(RAMP, PhotometricInterpretation="MONOCHROME1"), 255 - RAMP)
    dark = shown(DEEP, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=500)
    light = shown(DEEP, WindowCenter=1000, WindowWidth=500)
    assert np.abs(dark.astype(int) + light - 255).max() <= 1


def test_deep_values_without_a_window_are_spread_from_minimum_to_maximum():
    stored = DEEP[10:20] + 7
    low, high = int(stored.min()), int(stored.max())
    np.testing.assert_array_equal(shown(stored), np.rint((stored.astype(float) - low) / (high - low) * 255))
    np.testing.assert_array_equal(shown(stored, RescaleSlope=-1, RescaleIntercept=0), 255 - shown(stored))
    assert shown(np.full((4, 4), 900, dtype=np.uint16)).max() == 0
    signed = np.array([[-100, 0, 100]], dtype=np.int16)
    np.testing.assert_array_equal(shown(signed, PixelRepresentation=1), [[0, 128, 255]])


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -100)])
def test_windows_follow_the_standard(function, slope, intercept):
    formula = {"LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}.get(function, linear)
    tags = {} if function is None else {"VOILUTFunction": function}
    image = shown(
        DEEP, WindowCenter=[700, 9], WindowWidth=[400, 9], RescaleSlope=slope, RescaleIntercept=intercept, **tags
    )
    expected = [formula(x * slope + intercept, 700, 400) for x in DEEP.ravel().tolist()]
    assert np.abs(image.ravel() - np.array(expected)).max() <= 0.5 + 1e-9


def test_the_full_window_leaves_eight_bits_unchanged_and_a_narrow_one_clips():
    np.testing.assert_array_equal(shown(RAMP, WindowCenter=128, WindowWidth=256), RAMP)
    np.testing.assert_array_equal(shown(RAMP, WindowCenter=100, WindowWidth=1), np.where(RAMP >= 100, 255, 0))


@pytest.mark.parametrize("window", [{"WindowCenter": 128, "WindowWidth": 0}, {"WindowCenter": 3}, {"WindowWidth": 9}])
def test_a_window_without_extent_is_none(window):
    np.testing.assert_array_equal(shown(RAMP, **window), RAMP)


def test_tables_map_values_and_extend_their_ends():
    entries = [0, 10, 200, 255]
    steps = np.clip(DEEP.astype(int) - 1000, 0, 3)
    expected = np.array(entries)[steps]
    np.testing.assert_array_equal(shown(DEEP, VOILUTSequence=table([4, 1000, 8], entries)), expected)
    packed = table([4, 1000, 16], (np.array(entries, dtype="<u2") * 257).tobytes())
    packed[0]["LUTData"].VR = "OW"
    np.testing.assert_array_equal(shown(DEEP, VOILUTSequence=packed), expected)
    modality = table([4, 1000, 16], entries)
    np.testing.assert_array_equal(shown(DEEP, ModalityLUTSequence=modality), expected)
    both = shown(DEEP, ModalityLUTSequence=modality, WindowCenter=100, WindowWidth=1)
    np.testing.assert_array_equal(both, np.where(expected >= 100, 255, 0))


def test_colour_of_any_depth_is_reduced_by_luma():
    colours = np.random.default_rng(0).integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    grey = shown(colours, PhotometricInterpretation="RGB", BitsStored=16)
    assert np.abs(grey - colours / 257 @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_resolved(bits):
    palette = np.random.default_rng(bits).integers(0, 2**bits, (3, 256)).astype(f"<u{bits // 8}")
    tags = {}
    for name, column in zip(("Red", "Green", "Blue"), palette, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tags[f"{name}PaletteColorLookupTableData"] = column.tobytes()
    grey = shown(RAMP, PhotometricInterpretation="PALETTE COLOR", **tags)
    colours = palette[:, RAMP] / (2**bits - 1) * 255
    assert np.abs(grey - np.tensordot([0.299, 0.587, 0.114], colours, 1)).max() <= 1
