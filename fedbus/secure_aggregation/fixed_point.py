"""Updates as whole numbers, so that masked sums are exact: fixed point modulo 2^32 with a range for each tensor.

A site's entry is its share w/W times (update - base), counted in steps of range / `STEPS`. The shares add up to at most
1 and each difference is at most the range, so a sum never leaves [-2^31, 2^31), at any number of sites. A value out of
range is refused and never clipped: clipping would change the model without a trace.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import OutOfRangeError, RunError

FloatArrays = Mapping[str, NDArray[np.float32]]
"""Arrays of a model by name."""

MAX_SITES = 1 << 14
"""Sites of the largest session."""

STEPS = (1 << 31) - MAX_SITES
"""Steps in a tensor's range; what is left of 2^31 takes the rounding of each site, at most half a step."""

BLOCK = 1 << 15
"""Values that are encoded at a time: float64 copies of a whole model would need several times its memory."""


def tensor_ranges(sent: FloatArrays, update_range: float) -> dict[str, float]:
    """Return the largest change that each tensor may make: `update_range` times its largest value, at least 1.

    Hub and sites compute it from the model that was sent, so it is not sent.

    Raises:
        RunError: If the model has a value that is not finite.
    """
    ranges = {}
    for name, array in sent.items():
        largest = max(abs(float(array.max(initial=0))), abs(float(array.min(initial=0))))
        if not math.isfinite(largest):
            raise RunError(f"The received model has a value in {name} that is not finite.", "Lower the learning rate.")
        ranges[name] = update_range * max(1.0, largest)
    return ranges


def step_of(tensor_range: float) -> float:
    """Return the quantisation step of a tensor: the mean of n sites is at most n/2 steps from the exact one."""
    return tensor_range / STEPS


def encode_update(
    update: FloatArrays, base: FloatArrays, ranges: Mapping[str, float], share: float
) -> NDArray[np.uint32]:
    """Encode a site's part of the mean.

    Args:
        update: The arrays of the site, at least those of `base`.
        base: What is subtracted from them: the model that was sent; zeros for an array that is summed itself.
        ranges: The largest difference of each array of `base`, from `tensor_ranges`.
        share: The share of the site in the mean, above 0 and at most 1.

    Returns:
        One flat array of all values, sorted by name.

    Raises:
        OutOfRangeError: If a value is out of range.
        RunError: If an array is missing, has another shape, or a value that is not finite.
    """
    out = np.empty(sum(array.size for array in base.values()), dtype=np.uint32)
    if not 0 < share <= 1:
        raise RunError(f"A site's share in the mean is {share:g}.", "Run the same version of FedBUS everywhere.")
    for name, start, stop in _places(base):
        if name not in update or update[name].shape != base[name].shape:
            raise RunError(f"The update has no array {name} of the model's shape.", "Report this as a bug.")
        target = out[start:stop].view(np.int32)
        _encode(name, update[name].reshape(-1), base[name].reshape(-1), ranges[name], share, target)
    return out


def decode_mean(
    total: NDArray[np.uint32], base: FloatArrays, ranges: Mapping[str, float], shares: float
) -> dict[str, NDArray[np.float32]]:
    """Decode the mean of sites from the sum of their encoded parts.

    Args:
        total: The sum modulo 2^32 of what `encode_update` returned at each site.
        base: As in `encode_update`.
        ranges: As in `encode_update`.
        shares: The sum of the shares of these sites.

    Returns:
        float32 arrays by name, of the shapes of `base`.

    Raises:
        RunError: If the sum has another number of values, or the shares are not above 0.
    """
    if total.dtype != np.uint32 or total.shape != (sum(array.size for array in base.values()),) or not shares > 0:
        raise RunError("The secure sum has another size than the model.", "Run the same version of FedBUS everywhere.")
    out = np.empty(total.size, dtype=np.float32)
    for name, start, stop in _places(base):
        scale, before = step_of(ranges[name]) / shares, base[name].reshape(-1)
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            values = total[low:high].view(np.int32) * scale
            out[low:high] = before[low - start : high - start] + values
    return {name: out[start:stop].reshape(base[name].shape) for name, start, stop in _places(base)}


def _encode(
    name: str,
    update: NDArray[np.float32],
    base: NDArray[np.float32],
    tensor_range: float,
    share: float,
    out: NDArray[np.int32],
) -> None:
    scale = share / step_of(tensor_range)
    for low in range(0, update.size, BLOCK):
        block = slice(low, low + BLOCK)
        # In float64: the difference of two float32 values may need more bits than float32 has.
        with np.errstate(invalid="ignore"):  # infinity less infinity, which is refused below
            difference = np.subtract(update[block], base[block], dtype=np.float64)
        largest = max(float(difference.max()), -float(difference.min()))
        if not largest <= tensor_range:  # NaN fails too
            raise _out_of_range(name, difference, tensor_range)
        difference *= scale
        out[block] = np.rint(difference, out=difference)


def _out_of_range(name: str, difference: NDArray[np.float64], tensor_range: float) -> RunError:
    """Return the error for the first value that can't be encoded."""
    value = float(difference[~(np.abs(difference) <= tensor_range)][0])
    if not math.isfinite(value):
        return RunError(f"A value of {name} is not finite.", "Lower the learning rate, or check this site's images.")
    return OutOfRangeError(
        f"A value of {name} changes by {value:g}, but at most {tensor_range:g} fits into the secure sum.",
        "Nothing was sent. Set a larger range (--set update-range=...) or a lower learning rate.",
    )


def _places(base: FloatArrays) -> Iterator[tuple[str, int, int]]:
    """Yield each name with the start and the end of its values in the flat array."""
    start = 0
    for name in sorted(base):
        yield name, start, start + base[name].size
        start += base[name].size
