"""Fingerprints of pictures: a difference hash and a digest of the pixels."""

import hashlib

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BYTES = 32


def perceptual_hash(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the 256-bit difference hash of a picture, packed to uint8 [32]."""
    return np.packbits(imagehash.dhash(picture, hash_size=16).hash)


def pixel_digest(picture: Image.Image) -> bytes:
    """SHA-256 over size and decoded pixels, 32 bytes: equal digests, equal pictures, however their files differ."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()
