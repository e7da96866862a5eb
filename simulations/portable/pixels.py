"""Greyscale images as one compressed byte array: WebP of a chosen quality, or lossless."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOSSLESS = 0
"""The quality that means lossless WebP."""


def encode(pixels: NDArray[np.uint8], used: NDArray[np.bool_], quality: int) -> dict[str, NDArray[np.generic]]:
    """Encode images one after the other.

    Args:
        pixels: uint8 [N, H, W].
        used: bool [N]; the other images are left out, and decoded as black.
        quality: WebP quality from 1 to 100, or `LOSSLESS`.

    Returns:
        "encoded": uint8, the bytes of all images; "ends": int64 [N], where each image ends.
    """
    parts = [_encode_image(image, quality) if keep else b"" for image, keep in zip(pixels, used, strict=True)]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return {"encoded": np.frombuffer(b"".join(parts), dtype=np.uint8), "ends": ends}


def decode(encoded: NDArray[np.uint8], ends: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Decode what `encode` returned to uint8 [N, size, size]."""
    pixels, start = np.zeros((len(ends), size, size), dtype=np.uint8), 0
    for row, end in enumerate(ends.tolist()):
        if end > start:
            with Image.open(io.BytesIO(encoded[start:end].tobytes())) as image:
                pixels[row] = np.asarray(image.convert("L"))  # WebP knows only colour
        start = end
    return pixels


def _encode_image(image: NDArray[np.uint8], quality: int) -> bytes:
    out, grey = io.BytesIO(), Image.fromarray(np.asarray(image))
    grey.save(out, "WEBP", lossless=quality == LOSSLESS, quality=quality or 75)
    return out.getvalue()
