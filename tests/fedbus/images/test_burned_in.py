"""Marks drawn on blurred noise are found and painted over; blurred noise itself is left alone."""

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


def with_caliper(picture: np.ndarray, row: int, column: int, scale: int = 1) -> np.ndarray:
    """Four arms two to three pixels from the centre, one pixel wide."""
    marked = picture.copy()
    for near, far in ((2, 4), (-3, -1)):
        arm, width = slice(near * scale, far * scale), scale
        marked[row + arm.start : row + arm.stop, column : column + width] = 240
        marked[row : row + width, column + arm.start : column + arm.stop] = 240
    return marked


def test_tissue_has_no_marks_and_is_left_as_it_is():
    for seed in range(5):
        picture = tissue(seed=seed)
        marks = find_annotations(picture)
        assert not marks.any()
        assert paint_over(picture, marks) is picture


@pytest.mark.parametrize("scale", [1, 3])
def test_a_caliper_is_found_where_it_is_at_every_size_of_the_source(scale):
    picture = with_caliper(tissue(224 * scale, 300 * scale), 100 * scale, 150 * scale, scale)
    rows, columns = np.nonzero(caliper_centres(picture))
    assert len(rows)
    assert np.abs(rows - 100 * scale).max() <= 2 * scale
    assert np.abs(columns - 150 * scale).max() <= 2 * scale


def test_all_of_a_caliper_is_marked_and_little_else():
    plain = tissue()
    picture = with_caliper(plain, 100, 150)
    marks = find_annotations(picture)
    assert marks[picture != plain].all()
    assert marks.sum() < 150
    assert not marks[:90].any()
    assert not marks[:, 170:].any()


def test_three_arms_are_no_caliper():
    plain = tissue()
    picture = with_caliper(plain, 100, 150)
    picture[102:104] = plain[102:104]
    assert not caliper_centres(picture).any()


def test_letters_are_found_by_their_upright_strokes():
    plain = Image.fromarray(tissue())
    drawn = plain.copy()
    ImageDraw.Draw(drawn).text((60, 80), "LEFT HILT", fill=255)
    changed = np.asarray(drawn) != np.asarray(plain)
    marks = find_annotations(np.asarray(drawn))
    assert upright_strokes(np.asarray(drawn)).any()
    assert marks[changed].mean() > 0.9
    assert not marks[:, 160:].any()


def test_painting_brings_back_the_grey_of_the_surroundings():
    plain = tissue()
    picture = with_caliper(plain, 100, 150)
    marks = find_annotations(picture)
    painted = paint_over(picture, marks)
    np.testing.assert_array_equal(painted[~marks], picture[~marks])
    before, after = (np.abs(each.astype(int) - plain)[marks].mean() for each in (picture, painted))
    assert after < before / 2
    assert not find_annotations(painted).any()


def test_the_inside_of_a_large_mark_gets_the_median():
    picture = np.full((224, 224), 50, dtype=np.uint8)
    marks = np.zeros(picture.shape, dtype=bool)
    marks[50:150, 50:150] = True
    picture[marks] = 255
    assert (paint_over(picture, marks) == 50).all()
