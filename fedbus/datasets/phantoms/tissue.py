"""The anatomy of a phantom: layers of breast tissue and, in patients who have one, a lesion.

The layers are those of a breast sonogram from the probe down: skin, subcutaneous fat crossed by Cooper's
ligaments, fibroglandular tissue, retromammary fat, pectoral muscle. Lesions follow the descriptors of the
ACR BI-RADS ultrasound lexicon (Mendelson et al., 2013) with the signs that separate benign from malignant in
Stavros et al., "Solid breast nodules", Radiology 196 (1995): a benign lesion is oval, parallel to the skin,
smooth, thinly encapsulated, and enhances the tissue behind; a malignant one is irregular, taller than wide,
indistinct, and casts a shadow. As in patients, no single sign is certain: each is independently missing in
`AMBIGUOUS` of the lesions.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy  # loads scipy.ndimage on first use
from numpy.typing import NDArray

Floats = NDArray[np.float32]

AMBIGUOUS = 0.35
"""Share of lesions in which a given sign (orientation, outline, posterior feature) is uninformative."""

LOBULES = 0.5
"""Share of patients of any class with a fat lobule in the gland."""


@dataclass(frozen=True)
class Breast:
    """One patient's tissue without a lesion.

    Attributes:
        echo_db: [H, W] float32 backscatter in dB, about -20 (fat) to 6 (fascia).
        gland_mm: Depths of the upper and lower edge of glandular tissue, where lesions arise.
    """

    echo_db: Floats
    gland_mm: tuple[float, float]


@dataclass(frozen=True)
class Lesion:
    """One lesion, in millimetres of the patient's canvas; depth counts from the skin.

    Attributes:
        centre_mm: Lateral position and depth.
        radius_mm: Radius of the circle of the same area.
        aspect: Height over width; below 1 is parallel to the skin.
        tilt: Angle in radians.
        waves: [K, 2] amplitude (share of the radius) and phase of the outline's harmonics 3 to K+2.
        margin_mm: Width over which the border fades; wide is indistinct.
        echo_db: Backscatter inside; glandular tissue has -4 to 0, so less is hypoechoic.
        texture_db: Standard deviation of the backscatter inside.
        capsule_db: Brightness of the rim.
        posterior_db: Change of the backscatter behind the lesion; positive enhances, negative shadows.
    """

    centre_mm: tuple[float, float]
    radius_mm: float
    aspect: float
    tilt: float
    waves: NDArray[np.float64]
    margin_mm: float
    echo_db: float
    texture_db: float
    capsule_db: float
    posterior_db: float

    def inside_mm(self, x_mm: Floats, z_mm: Floats) -> Floats:
        """Radial distance to the outline in mm, [H, W] float32 for x [W] and z [H]; positive inside."""
        place = (x_mm[None, :] - self.centre_mm[0]) + 1j * (z_mm[:, None] - self.centre_mm[1])
        place = (place * np.exp(-1j * self.tilt)).astype(np.complex64)
        wide, high = self.radius_mm / np.sqrt(self.aspect), self.radius_mm * np.sqrt(self.aspect)
        unit = place.real / wide + 1j * (place.imag / high)
        unit /= np.maximum(np.abs(unit), 1e-6)
        # The harmonics' sum as a polynomial in exp(i angle), by Horner's rule.
        series = np.zeros_like(unit)
        for amplitude, phase in self.waves[::-1]:
            series = series * unit + np.complex64(amplitude * np.exp(1j * phase))
        reach = (1 + (series * unit**3).real) * np.hypot(wide * unit.real, high * unit.imag)
        return np.asarray(reach - np.abs(place), dtype=np.float32)

    def another_view(self, rng: np.random.Generator) -> "Lesion":
        """The same lesion cut by the probe in a slightly different plane."""
        return replace(
            self,
            radius_mm=self.radius_mm * rng.uniform(0.88, 1.08),
            tilt=self.tilt + rng.normal(0, 0.08),
            waves=self.waves + np.array([0.0, 0.35]) * rng.standard_normal(self.waves.shape),
        )


def grow_breast(x_mm: Floats, z_mm: Floats, rng: np.random.Generator) -> Breast:
    """Lay one patient's tissue on a grid.

    Args:
        x_mm: [W] float32 lateral positions, evenly spaced.
        z_mm: [H] float32 depths from the skin, evenly spaced.
        rng: Generator of this patient.
    """
    depth = float(z_mm[-1])
    fat_end = depth * rng.uniform(0.16, 0.28)
    gland_end = depth * rng.uniform(0.60, 0.72)
    muscle_start = gland_end + depth * rng.uniform(0.05, 0.09)
    skin, fat, gland, behind = (
        level + _wander(x_mm, height, rng)
        for level, height in ((1.6, 0.1), (fat_end, 0.8), (gland_end, 0.7), (muscle_start, 0.5))
    )
    z = z_mm[:, None]
    step = (float(z_mm[1] - z_mm[0]), float(x_mm[1] - x_mm[0]))
    shape = (len(z_mm), len(x_mm))
    septa = np.exp(-((_texture(shape, (1.8, 3.0), step, rng) / 0.12) ** 2))
    lobes = _texture(shape, (1.0, 2.2), step, rng)
    fibres = _texture(shape, (0.25, 4.0), step, rng)
    density = rng.uniform(-2, 2)
    lobule = _lobule(x_mm, z_mm, fat_end, gland_end, rng)
    fat_db = -14 + 9 * septa + lobes
    gland_db = density - 2 + 2.5 * lobes - 10 * lobule
    muscle_db = -12 + 3.5 * fibres
    echo = np.select([z < skin, z < fat, z < gland, z < behind], [2.0, fat_db, gland_db, fat_db], muscle_db)
    for edge, bright in ((skin, 3.0), (fat, 2.0), (gland, 6.0), (behind, 8.0)):
        echo = echo + bright * np.exp(-(((z - edge) / 0.35) ** 2))
    return Breast(scipy.ndimage.gaussian_filter(echo, 0.7).astype(np.float32), (fat_end, gland_end))


def grow_lesion(label: str, breast: Breast, middle_mm: float, rng: np.random.Generator) -> Lesion:
    """Draw a lesion of one class in the glandular tissue.

    Args:
        label: "benign" or "malignant".
        breast: Tissue in which it grows.
        middle_mm: Lateral middle of the patient's canvas.
        rng: Generator of this patient.
    """
    malignant = label == "malignant"
    top, bottom = breast.gland_mm
    radius = min(rng.uniform(3.5, 7.0), 0.42 * (bottom - top))
    clear = rng.random(3) >= AMBIGUOUS
    aspect = rng.uniform(1.15, 1.6) if malignant else rng.uniform(0.5, 0.78)
    roughness = rng.uniform(0.10, 0.18) if malignant else rng.uniform(0.0, 0.02)
    posterior = rng.uniform(-16, -9) if malignant else rng.uniform(4, 9)
    orders = np.arange(3, 11)
    amplitudes = (roughness if clear[1] else 0.035) * rng.standard_normal(orders.size) / np.sqrt(orders / 4)
    return Lesion(
        centre_mm=(
            middle_mm + rng.uniform(-5, 5),
            float(np.clip(rng.uniform(top, bottom), top + 0.8 * radius, bottom - 0.8 * radius)),
        ),
        radius_mm=radius,
        aspect=aspect if clear[0] else rng.uniform(0.8, 1.15),
        tilt=rng.normal(0, 0.15),
        waves=np.stack([amplitudes, rng.uniform(0, 2 * np.pi, orders.size)], axis=1),
        margin_mm=rng.uniform(0.5, 1.0) if malignant and clear[1] else rng.uniform(0.15, 0.4),
        echo_db=rng.uniform(-18, -9),
        texture_db=rng.uniform(0.5, 2.5),
        capsule_db=rng.uniform(2, 6) if not malignant and clear[1] else 0.0,
        posterior_db=posterior if clear[2] else rng.uniform(-3, 3),
    )


def insert_lesion(
    breast: Breast, lesion: Lesion, x_mm: Floats, z_mm: Floats, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Put a lesion into tissue, with its effect on the sound that passes through it.

    A lesion that attenuates less than its surroundings leaves more sound for the tissue behind it, and the
    time-gain compensation, which ignores it, shows that as enhancement; one that attenuates more
    leaves a shadow. The effect builds up along the path inside the lesion and stays below it.

    Returns:
        Backscatter with the lesion and its posterior feature, [H, W] float32 in dB; its mask, [H, W] bool.
    """
    inside = lesion.inside_mm(x_mm, z_mm)
    mask = inside > 0
    weight = 1 / (1 + np.exp(-np.clip(2 * inside / lesion.margin_mm, -30, 30)))
    step = (float(z_mm[1] - z_mm[0]), float(x_mm[1] - x_mm[0]))
    within = lesion.echo_db + lesion.texture_db * _texture(breast.echo_db.shape, (0.8, 0.8), step, rng)
    echo = breast.echo_db * (1 - weight) + within * weight
    echo += lesion.capsule_db * np.exp(-((inside / 0.4) ** 2))
    path = np.cumsum(mask, axis=0) * step[0] / (2 * lesion.radius_mm)
    echo += lesion.posterior_db * scipy.ndimage.gaussian_filter1d(np.minimum(1.25 * path, 1), 0.6 / step[1], axis=1)
    return echo.astype(np.float32), mask


def _wander(x_mm: Floats, height_mm: float, rng: np.random.Generator) -> Floats:
    """A boundary's smooth ups and downs, [1, W] float32 in mm."""
    waves = rng.uniform(0.12, 0.45, 3)[:, None] * x_mm + rng.uniform(0, 2 * np.pi, 3)[:, None]
    return np.asarray(height_mm * np.sin(waves).sum(axis=0, keepdims=True), dtype=np.float32)


def _lobule(x_mm: Floats, z_mm: Floats, top_mm: float, bottom_mm: float, rng: np.random.Generator) -> Floats:
    """Weight of a small fat lobule in the gland, a lesion's classic mimic: [H, W] float32 in [0, 1]."""
    if rng.random() >= LOBULES:
        return np.zeros((len(z_mm), len(x_mm)), dtype=np.float32)
    across = (x_mm[None, :] - rng.uniform(x_mm[0], x_mm[-1])) / rng.uniform(2.0, 4.0)
    down = (z_mm[:, None] - rng.uniform(top_mm + 2, bottom_mm - 2)) / rng.uniform(1.0, 2.0)
    return np.asarray(1 / (1 + (across**2 + down**2) ** 3), dtype=np.float32)


def _texture(
    shape: tuple[int, ...],
    grain_mm: tuple[float, float],
    step_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Floats:
    """Smooth noise of unit variance with the given grain, down and across, float32."""
    sigma = [grain / step for grain, step in zip(grain_mm, step_mm, strict=True)]
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, truncate=2)
    return np.asarray(noise / noise.std(), dtype=np.float32)
