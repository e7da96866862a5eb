"""Seeds that depend on what is done, never on the order in which it is done."""

import hashlib


def derive_seed(seed: int, *what: str | int) -> int:
    """Derive a 63-bit seed from a seed of the settings and the names of one piece of work.

    The arm is not among the names: the arms of a comparison share their random numbers (a site's batches and
    augmentations in round 3 are the same under FedAvg and FedProx), so that they differ only by method.

    Args:
        seed: The seed that the user set.
        what: The purpose first, then site, epoch or step: `derive_seed(0, "order", "busi", 3)`.
    """
    text = "\x1f".join([str(seed), *map(str, what)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
