"""How much of a map is inside the lesion: its energy there against the area of the lesion.

The share of a map's energy inside a region is the energy-based pointing game of Wang et al., "Score-CAM", CVPR
workshops 2020. A map that ignores the image has, on average, the share of the area. Whether a map shows what a model
learned at all is told by the same share for randomised weights: Adebayo et al., "Sanity checks for saliency maps",
NeurIPS 2018.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation.bootstrap import draw_weights, interval
from fedbus.explain.grad_cam import Maps, resize_maps

FloatArray = NDArray[np.float64]
Masks = NDArray[np.bool_]


def energy_shares(maps: Maps, masks: Masks) -> FloatArray:
    """Compute the share of each map's energy inside its mask.

    Args:
        maps: float32 [N, h, w], at least 0; enlarged to the size of the masks first.
        masks: bool [N, H, W].

    Returns:
        float64 [N]; NaN where a map is 0 everywhere, or not finite.
    """
    enlarged = resize_maps(maps, masks.shape[1:]).astype(np.float64)
    inside, total = (enlarged * masks).sum(axis=(1, 2)), enlarged.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, inside / total, np.nan)


def largest_shares(masks: Masks, size: tuple[int, int]) -> FloatArray:
    """Compute the largest share of energy that any map of a size can have inside each mask.

    A coarse map spreads beyond a small lesion wherever its energy is. The best map has all of it at one position.

    Args:
        masks: bool [N, H, W], none empty.
        size: Height and width of the map before it is enlarged.

    Returns:
        float64 [N].
    """
    positions = np.eye(size[0] * size[1], dtype=np.float32).reshape(-1, *size)
    enlarged = resize_maps(positions, masks.shape[1:]).reshape(len(positions), -1).astype(np.float64)
    inside = masks.reshape(len(masks), -1).astype(np.float64) @ enlarged.T
    return np.asarray((inside / enlarged.sum(axis=1)).max(axis=1))


def summarise(
    columns: Mapping[str, FloatArray], groups: NDArray[np.str_], sites: NDArray[np.str_], draws: int, seed: int
) -> dict[str, Any]:
    """Average shares over images, with intervals, and compare each with the share of the area, image by image.

    Args:
        columns: Shares by name, float64 [N], NaN where undefined; `area` is one of them.
        groups: str [N], as in `draw_weights`.
        sites: str [N].
        draws: Bootstrap draws of groups.
        seed: Seed of the draws.

    Returns:
        {"images", "groups"}, and by name {"value", "low", "high", "images", "over_area": {"value", "low", "high"}};
        None for a name without any share.
    """
    weights = draw_weights(groups, sites, draws, seed)
    area = columns["area"]
    summary: dict[str, Any] = {"images": len(groups), "groups": len(np.unique(groups))}
    for name, shares in columns.items():
        known = np.isfinite(shares)
        summary[name] = None
        if known.any():
            over = {} if name == "area" else {"over_area": _mean(shares[known] - area[known], weights[:, known])}
            summary[name] = _mean(shares[known], weights[:, known]) | {"images": int(known.sum())} | over
    return summary


def _mean(values: FloatArray, weights: NDArray[np.uint8]) -> dict[str, float]:
    """The mean of values [N] and its interval over draws [B, N]."""
    with np.errstate(invalid="ignore"):  # a draw may have none of the images
        low, high = interval(weights @ values / weights.sum(axis=1, dtype=np.float64))
    return {"value": float(values.mean()), "low": low, "high": high}
