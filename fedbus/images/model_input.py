"""A decoded image to the pixels that a model sees: one function for training, evaluation and prediction."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.images.burned_in import without_annotations
from fedbus.images.decode import resize_image


def prepare_image(image: Image.Image, size: int, *, masked: bool) -> NDArray[np.uint8]:
    """Resize a grey image to [size, size] uint8; with `masked`, burned-in annotations are painted over before."""
    return resize_image(without_annotations(image) if masked else image, size)
