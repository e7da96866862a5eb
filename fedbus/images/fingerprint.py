"""Fingerprints of images: a difference hash for near-duplicates, and a digest for identical images.

Each bit of the hash states whether a cell of the image, reduced to 17 x 16 cells, is brighter than its left neighbour
(imagehash's `dhash`). Gain, compression and size hardly change it.
"""

import hashlib

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BYTES = 32
"""Of the hash, and of the digest."""


def perceptual_hash(image: Image.Image) -> NDArray[np.uint8]:
    """Return the 256-bit difference hash of an image, packed to uint8 [32]."""
    return np.packbits(imagehash.dhash(image, hash_size=16).hash)


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 of size and decoded pixels, 32 bytes: equal for identical images, however their files differ."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
