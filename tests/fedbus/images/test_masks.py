"""Which grey values a mask has, and no ultrasound image."""

import io

import numpy as np
import pytest
from PIL import Image

from fedbus.images.decode import decode_image
from fedbus.images.masks import has_mask_greys
from tests.archives import make_image

SIZE = (120, 90)


def disc(grey=255, radius=25):
    """A filled disc on black."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    inside = (x - 60) ** 2 + (y - 45) ** 2 < radius**2
    return Image.fromarray(np.where(inside, grey, 0).astype(np.uint8))


def compressed(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("L")


@pytest.mark.parametrize("grey", [1, 128, 255])
def test_two_greys_in_any_mode(tmp_path, grey):
    mask = disc(grey)
    palette = mask.point(lambda value: int(value > 0)).convert("P")
    palette.putpalette([0, 0, 0, grey, grey, grey])
    for name, stored in {
        "grey": mask, "colour": mask.convert("RGB"), "palette": palette, "bit": mask.point(lambda v: v > 0, "1")
    }.items():  # fmt: skip
        stored.save(tmp_path / f"{name}.png")
        assert has_mask_greys(decode_image(tmp_path / f"{name}.png"))


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize("grey", [80, 255])
@pytest.mark.parametrize("radius", [3, 10, 40])
def test_compressed_and_resized_masks(quality, grey, radius):
    assert has_mask_greys(compressed(disc(grey, radius), quality))
    assert has_mask_greys(disc(grey, radius).resize((90, 70), Image.Resampling.BILINEAR))


def test_masks_of_several_lesion_types_and_without_any_lesion():
    types = np.repeat(np.arange(5, dtype=np.uint8) * 40, 20 * 30).reshape(-1, 30)
    for mask in (Image.fromarray(types), Image.new("L", SIZE), compressed(Image.new("L", SIZE, 7), 50)):
        assert has_mask_greys(mask)


def test_images_have_other_greys():
    generator = np.random.default_rng(0)
    dark = np.minimum(generator.exponential(12, (90, 120)), 255).astype(np.uint8)
    dark[:6, :6] = 255  # a white marker
    ramp = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
    for image in (make_image(generator), Image.fromarray(dark), Image.fromarray(ramp)):
        assert not has_mask_greys(image)
        assert not has_mask_greys(compressed(image, 50))


def test_real_images_and_masks(shared_data):
    """Every tenth image and mask of three datasets."""
    for glob, expected in {
        "BUSI/*/*/*).png": False, "BUSI/*/*/*_mask*.png": True, "BUS-UCLM/images/*": False, "BUS-UCLM/masks/*": True,
        "BUSBRA/Images/*": False, "BUSBRA/Masks/*": True,
    }.items():  # fmt: skip
        paths = sorted(shared_data.glob(glob))[::10]
        assert len(paths) > 60
        assert [path for path in paths if has_mask_greys(decode_image(path)) != expected] == []
