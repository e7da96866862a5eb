"""Annotations drawn on blurred noise are found and painted over; blurred noise itself is left unchanged."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from fedbus.images.burned_in import caliper_centres, find_annotations, paint_over, upright_strokes


def tissue(height: int = 224, width: int = 300, seed: int = 0) -> np.ndarray:
    """Speckle as a beam blurs it: twice as wide as high."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    blurred = ndimage.gaussian_filter(noise, (2 * height / 224, 4 * height / 224))
    return np.clip(90 + 25 * blurred / blurred.std(), 0, 255).astype(np.uint8)


def with_caliper(image: np.ndarray, row: int, column: int, scale: int = 1) -> np.ndarray:
    """Four arms two to three pixels from the centre, one pixel wide."""
    marked = image.copy()
    for near, far in ((2, 4), (-3, -1)):
        arm, width = slice(near * scale, far * scale), scale
        marked[row + arm.start : row + arm.stop, column : column + width] = 240
        marked[row : row + width, column + arm.start : column + arm.stop] = 240
    return marked


def test_tissue_has_no_annotations_and_is_left_unchanged():
    for seed in range(5):
        image = tissue(seed=seed)
        annotations = find_annotations(image)
        assert not annotations.any()
        assert paint_over(image, annotations) is image


@pytest.mark.parametrize("scale", [1, 3])
def test_a_caliper_is_found_where_it_is_at_every_size_of_the_source(scale):
    image = with_caliper(tissue(224 * scale, 300 * scale), 100 * scale, 150 * scale, scale)
    rows, columns = np.nonzero(caliper_centres(image))
    assert len(rows)
    assert np.abs(rows - 100 * scale).max() <= 2 * scale
    assert np.abs(columns - 150 * scale).max() <= 2 * scale


def test_all_of_a_caliper_is_found_and_little_else():
    plain = tissue()
    image = with_caliper(plain, 100, 150)
    annotations = find_annotations(image)
    assert annotations[image != plain].all()
    assert annotations.sum() < 150
    assert not annotations[:90].any()
    assert not annotations[:, 170:].any()


def test_three_arms_are_not_a_caliper():
    plain = tissue()
    image = with_caliper(plain, 100, 150)
    image[102:104] = plain[102:104]
    assert not caliper_centres(image).any()


def test_letters_are_found_by_their_upright_strokes():
    plain = Image.fromarray(tissue())
    drawn = plain.copy()
    ImageDraw.Draw(drawn).text((60, 80), "LEFT HILT", fill=255)
    changed = np.asarray(drawn) != np.asarray(plain)
    annotations = find_annotations(np.asarray(drawn))
    assert upright_strokes(np.asarray(drawn)).any()
    assert annotations[changed].mean() > 0.9
    assert not annotations[:, 160:].any()


def test_painting_brings_back_the_grey_of_the_surroundings():
    plain = tissue()
    image = with_caliper(plain, 100, 150)
    annotations = find_annotations(image)
    painted = paint_over(image, annotations)
    np.testing.assert_array_equal(painted[~annotations], image[~annotations])
    before, after = (np.abs(each.astype(int) - plain)[annotations].mean() for each in (image, painted))
    assert after < before / 2
    assert not find_annotations(painted).any()


def test_the_inside_of_a_large_annotation_gets_the_median():
    image = np.full((224, 224), 50, dtype=np.uint8)
    annotations = np.zeros(image.shape, dtype=bool)
    annotations[50:150, 50:150] = True
    image[annotations] = 255
    assert (paint_over(image, annotations) == 50).all()
