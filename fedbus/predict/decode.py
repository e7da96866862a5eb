"""Decode images ahead of the model, in threads, so that neither waits for the other and memory stays bounded."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.errors import ImageError
from fedbus.images.decode import decode_image
from fedbus.images.masks import has_mask_greys
from fedbus.images.model_input import prepare_image
from fedbus.predict.sources import Source, Unreadable

AHEAD = 128
"""Images that are decoded before the model needs them, at most; a sequence's source has many, so one more may wait."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as the model sees it.

    Attributes:
        name: The file, as outputs call it.
        frame: Number of the frame, counted from 1; None for a file that is one image.
        pixels: uint8 [size, size].
        mask_greys: Whether its grey values are those of a mask or of an empty image, at full size.
    """

    name: str
    frame: int | None
    pixels: NDArray[np.uint8]
    mask_greys: bool


@dataclass(frozen=True)
class Decoder:
    """How images are prepared for a model.

    Attributes:
        size: Pixels per side.
        masked: Whether burned-in annotations are painted over.
    """

    size: int
    masked: bool

    def decode(self, source: Source) -> list[Decoded | Unreadable]:
        """Decode the images of a source, at full size one after another."""
        numbers: Sequence[int | None] = source.frames or [None]
        shown = zip(numbers, _images(source), strict=True)
        return [self._prepare(source.name, number, image) for number, image in shown]

    def decode_all(self, sources: Sequence[Source]) -> Iterator[list[Decoded | Unreadable]]:
        """Decode sources in threads, about `AHEAD` images ahead of the caller; yields them in their order."""
        waiting: deque[tuple[int, Future[list[Decoded | Unreadable]]]] = deque()
        ahead = 0
        pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
        try:
            for source in sources:
                while ahead >= AHEAD:
                    count, future = waiting.popleft()
                    ahead -= count
                    yield future.result()
                waiting.append((len(source), pool.submit(self.decode, source)))
                ahead += len(source)
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, name: str, number: int | None, image: Image.Image | ImageError) -> Decoded | Unreadable:
        if isinstance(image, ImageError):
            return Unreadable.from_error(name if number is None else f"{name}#{number}", image)
        return Decoded(name, number, prepare_image(image, self.size, masked=self.masked), has_mask_greys(image))


def _images(source: Source) -> Iterator[Image.Image | ImageError]:
    if source.frames:
        from fedbus.images.dicom import decode_frames  # late: most folders need no pydicom

        yield from decode_frames(source.path, source.frames)
        return
    try:
        yield decode_image(source.path)
    except ImageError as error:
        yield error
