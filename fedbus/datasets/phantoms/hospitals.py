"""The three phantom hospitals: scanner, class mix, and the images of one patient."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.datasets.phantoms.scanner import Scanner, annotate, compress, envelope
from fedbus.datasets.phantoms.tissue import grow_breast, grow_lesion, insert_lesion

ROAM_MM = 4.0
"""How far the probe moves to either side between the views of one patient."""


@dataclass(frozen=True)
class Hospital:
    """A scanner, and the share of images of each class in the order of `CLASSES`."""

    scanner: Scanner
    mix: tuple[float, float, float]


SITES = {
    # Mixed and benign-heavy, as BUSI.
    "phantom-a": Hospital(
        Scanner(
            size=(208, 172),
            frame=(0, 0, 8, 0),
            pixel_mm=0.20,
            spread_mm=(0.22, 0.38),
            gain_db=-14,
            dynamic_range_db=60,
            slope_db=-3,
            noise_db=-48,
            logo="PHANTOM A",
            corner=(0.95, 0.02),
            calipers=0.1,
        ),
        mix=(0.50, 0.30, 0.20),
    ),
    # Mostly normal, as BUS-UCLM: a deep, dark, high-contrast setting in a framed image.
    "phantom-b": Hospital(
        Scanner(
            size=(240, 206),
            frame=(20, 6, 20, 26),
            pixel_mm=0.24,
            spread_mm=(0.20, 0.50),
            gain_db=-16,
            dynamic_range_db=54,
            slope_db=-6,
            noise_db=-46,
            logo="Phantom B  L12-5",
            corner=(0.03, 1.0),
            calipers=0.0,
        ),
        mix=(0.25, 0.20, 0.55),
    ),
    # No normals, as BUS-BRA: an older machine, coarse, bright and shallow.
    "phantom-c": Hospital(
        Scanner(
            size=(160, 144),
            frame=(0, 10, 0, 0),
            pixel_mm=0.235,
            spread_mm=(0.32, 0.60),
            gain_db=-13,
            dynamic_range_db=64,
            slope_db=0,
            noise_db=-42,
            logo="PHANTOM-C",
            corner=(0.0, 0.0),
            calipers=0.0,
        ),
        mix=(0.60, 0.40, 0.0),
    ),
}
"""The hospitals by name."""


@dataclass(frozen=True)
class View:
    """One image of a patient.

    Attributes:
        image: The image as exported, [height, width] uint8, with frame and text.
        field: Only the field of view, [H, W] uint8.
        mask: Mask of the lesion in the field of view, [H, W] bool, empty for a normal.
    """

    image: NDArray[np.uint8]
    field: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def draw_patient(site: str, label: str, number: int, seed: int) -> list[View]:
    """Draw one to three views of one patient.

    Args:
        site: One of `SITES`.
        label: One of `CLASSES`.
        number: Number of the patient, counted within site and class.
        seed: Seed of the whole set; together with the other three it determines every pixel.
    """
    scanner = SITES[site].scanner
    rng = np.random.default_rng(np.random.SeedSequence((seed, list(SITES).index(site), CLASSES.index(label), number)))
    rows, columns = scanner.grid
    roam = round(ROAM_MM / scanner.pixel_mm)
    z_mm = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(scanner.pixel_mm)
    x_mm = np.arange(columns + 2 * roam, dtype=np.float32) * np.float32(scanner.pixel_mm)
    breast = grow_breast(x_mm, z_mm, rng)
    lesion = None if label == "normal" else grow_lesion(label, breast, float(x_mm[-1]) / 2, rng)
    gain = scanner.gain_db + rng.normal(0, 1.5)
    views = []
    for _ in range(rng.choice(3, p=(0.5, 0.3, 0.2)) + 1):
        tissue, mask = breast.echo_db, np.zeros(breast.echo_db.shape, dtype=bool)
        if lesion is not None:
            tissue, mask = insert_lesion(breast, lesion.another_view(rng), x_mm, z_mm, rng)
        start = int(rng.integers(2 * roam + 1))
        window = np.s_[:, start : start + columns]
        tissue, mask = tissue[window], mask[window]
        field = compress(envelope(tissue, scanner, rng), scanner, gain + rng.normal(0, 0.5))
        calipers = _calipers(mask) if mask.any() and rng.random() < scanner.calipers else []
        note = f"{rng.integers(10, 24)}:{rng.integers(60):02d}  {rng.choice(['L', 'R'])} {rng.integers(1, 13)}h"
        views.append(View(annotate(field, scanner, calipers, note), field, mask))
    return views


def _calipers(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Column and row of the calipers at the left and right ends of the lesion."""
    columns = np.flatnonzero(mask.any(axis=0))
    return [(int(c), int(np.flatnonzero(mask[:, c]).mean())) for c in (columns[0], columns[-1])]
