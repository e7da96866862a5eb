"""The arms of a comparison by name, and the arms that are derived from others by fine-tuning or blending."""

OWN = "local"
"""The arm in which each site trains, and in results uses, a model of its own."""

CENTRAL_ARMS = (OWN, "centralised")
STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "qfedavg",
    "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan",
)  # fmt: skip
"""Federated arms: the names of Flower's strategies in lower case."""

AVERAGING = ("fedavg", "fedprox")
"""Arms whose model is the mean of the sites' models, so that a row of it can be averaged over fewer sites."""

ROBUST = ("fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan")
"""Arms that may discard the updates of some sites; statistics of all sites would bring them back in."""

TUNED = "-tuned"
"""Suffix of arms that fine-tune the best round of a federated arm at each site."""

TUNING_SHARE = 1 / 6
"""Share of the comparison's rounds in which an arm is fine-tuned: small sites have a few hundred rows, and over-fit."""

BLENDED = "-blended"
"""Suffix of arms that blend, at each site, the predictions of another arm and of the site's own model."""


def is_tuned(arm: str) -> bool:
    """Return whether an arm is a federated one with fine-tuning at each site, such as `fedavg-tuned`."""
    return arm.endswith(TUNED)


def tuned_from(arm: str) -> str:
    """Return the federated arm that a fine-tuned arm starts from; empty for other arms."""
    return arm.removesuffix(TUNED) if is_tuned(arm) else ""


def tuning_rounds(rounds: int) -> int:
    """Return the number of tuning rounds, at least 1; each has as many steps as a round of the comparison."""
    return max(1, round(rounds * TUNING_SHARE))


def is_blended(arm: str) -> bool:
    """Return whether an arm blends another arm's predictions with each site's own model, such as `fedavg-blended`."""
    return arm.endswith(BLENDED)


def blended_from(arm: str) -> str:
    """Return the arm that a blended arm blends with the sites' own models; empty for other arms."""
    return arm.removesuffix(BLENDED) if is_blended(arm) else ""


def is_federated(arm: str) -> bool:
    """Return whether an arm is federated, or derived from a federated arm by fine-tuning or blending."""
    return (tuned_from(arm) or blended_from(arm) or arm) in STRATEGIES
