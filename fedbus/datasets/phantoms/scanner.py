"""The scanner of a synthetic site: from tissue to the grey image that it would export.

Fully developed speckle: tissue has many scatterers in each resolution cell, so the echo is a complex
Gaussian field seen through the point-spread function, and its envelope follows Rayleigh's distribution
(Wagner, Smith, Sandrik and Lopez, "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics
Ultrason. 30, 1983). Log compression then maps the chosen dynamic range to 256 grey levels.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # loads scipy.ndimage on first use
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fedbus.datasets.phantoms.tissue import Floats


@dataclass(frozen=True)
class Scanner:
    """The properties of one site's scanner, and what it burns into its images.

    Attributes:
        size: Width and height of the exported image in pixels, frame included.
        frame: Black margin in pixels: left, top, right, bottom.
        pixel_mm: Side of a pixel; together with the size it determines the depth.
        spread_mm: Standard deviation of the point-spread function, axial and lateral.
        gain_db: Overall gain.
        dynamic_range_db: Range of levels shown between black and white; a small range gives high contrast.
        slope_db: Error of the time-gain compensation at the bottom; negative darkens the depth.
        noise_db: Electronic noise relative to glandular tissue at the skin; it increases with depth.
        logo: Text block burned into a corner.
        corner: Position of the text block, as shares of the free width and height.
        calipers: Share of lesion images with calipers.
    """

    size: tuple[int, int]
    frame: tuple[int, int, int, int]
    pixel_mm: float
    spread_mm: tuple[float, float]
    gain_db: float
    dynamic_range_db: float
    slope_db: float
    noise_db: float
    logo: str
    corner: tuple[float, float]
    calipers: float

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the field of view, without the frame."""
        left, top, right, bottom = self.frame
        return self.size[1] - top - bottom, self.size[0] - left - right


def envelope(echo_db: Floats, scanner: Scanner, rng: np.random.Generator) -> Floats:
    """Insonify tissue: the demodulated echo before compression.

    Args:
        echo_db: [H, W] float32 backscatter in dB.
        scanner: Its point-spread function is used.
        rng: Generator of this view; no two views share their speckle.

    Returns:
        [H, W] float32, Rayleigh where tissue is homogeneous, with mean square 1 at 0 dB.
    """
    sigma = [spread / scanner.pixel_mm for spread in scanner.spread_mm]
    amplitude = 10 ** (echo_db / 20)
    parts = [
        scipy.ndimage.gaussian_filter(
            amplitude * rng.standard_normal(echo_db.shape, dtype=np.float32), sigma, truncate=3
        )
        for _ in range(2)
    ]
    # A Gaussian of standard deviations a, b keeps 1 / (4 pi a b) of white noise's variance.
    scale = np.sqrt(2 * np.pi * sigma[0] * sigma[1])
    return np.asarray(scale * np.hypot(*parts), dtype=np.float32)


def compress(signal: Floats, scanner: Scanner, gain_db: float) -> NDArray[np.uint8]:
    """Apply time-gain compensation, the floor of electronic noise, gain and log compression.

    Args:
        signal: [H, W] float32 envelope.
        scanner: Its slope, noise floor and dynamic range are used.
        gain_db: Gain of this examination.

    Returns:
        [H, W] uint8.
    """
    depth = np.linspace(0, 1, signal.shape[0], dtype=np.float32)[:, None]
    # The compensation amplifies noise with depth as much as it restores the echo.
    floor = 10 ** ((scanner.noise_db + 18 * depth) / 20)
    level = 20 * np.log10(np.hypot(signal, floor)) + scanner.slope_db * depth + gain_db
    grey = 255 * (1 + level / scanner.dynamic_range_db)
    return np.asarray(np.clip(grey, 0, 255), dtype=np.uint8)


def annotate(
    grey: NDArray[np.uint8], scanner: Scanner, calipers: list[tuple[int, int]], note: str
) -> NDArray[np.uint8]:
    """Frame an image and burn in what scanners write: text, depth ticks, a probe mark, calipers.

    Args:
        grey: [H, W] uint8 field of view.
        scanner: Its frame and text are used.
        calipers: Column and row of each caliper in the field of view.
        note: Line of text of this examination.

    Returns:
        An image of the scanner's export size, [height, width] uint8.
    """
    left, top, _, _ = scanner.frame
    image = Image.new("L", scanner.size, 0)
    image.paste(Image.fromarray(grey), (left, top))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default()
    text = f"{scanner.logo}\n{note}"
    box = draw.multiline_textbbox((0, 0), text, font=font)
    place = [share * (room - end) for share, room, end in zip(scanner.corner, scanner.size, box[2:], strict=True)]
    draw.rectangle([place[0] - 1, place[1], place[0] + box[2], place[1] + box[3] + 1], fill=0)
    draw.multiline_text((place[0], place[1]), text, fill=210, font=font)
    for tick in np.arange(0, scanner.grid[0] * scanner.pixel_mm, 5):
        row = top + int(tick / scanner.pixel_mm)
        length = 5 if tick % 10 == 0 else 2
        draw.line([(scanner.size[0] - 1 - length, row), (scanner.size[0] - 1, row)], fill=200)
    draw.ellipse([left + 2, top + 1, left + 6, top + 5], outline=230)
    for column, row in calipers:
        x, y = left + column, top + row
        draw.line([(x - 3, y), (x + 3, y)], fill=255)
        draw.line([(x, y - 3), (x, y + 3)], fill=255)
    return np.asarray(image)
