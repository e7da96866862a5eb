"""How long a run will still train, estimated from the rounds that are finished."""

from collections.abc import Iterable, Sequence

from fedbus.settings.arms import is_tuned
from fedbus.watch.snapshot import Training


def seconds_left(trainings: Sequence[Training], sites: int) -> float | None:
    """Estimate the training time that is left, without the scoring at the end.

    Arms of a comparison do equal work. So an arm that has no round yet is estimated from the others: a round of a
    federated or the centralised arm takes as long as one of every site's own model together.

    Args:
        trainings: All arms and seeds.
        sites: The number of sites.

    Returns:
        Seconds, or None if no round is finished yet.
    """
    shared = _mean(each.round_seconds for each in trainings if _is_shared(each))
    alone = _mean(each.round_seconds for each in trainings if not _is_shared(each))
    if shared is None and alone is None:
        return None
    if shared is None:
        shared = (alone or 0) * max(1, sites)
    if alone is None:
        alone = shared / max(1, sites)
    left = 0.0
    for each in trainings:
        if not each.finished:
            usual = shared if _is_shared(each) else alone
            left += (each.total - each.done) * (usual if each.round_seconds is None else each.round_seconds)
    return left


def _is_shared(training: Training) -> bool:
    """Whether a round of a training uses the images of all sites; a round of fine-tuning is that of one site."""
    return not training.arm.startswith("local") and not is_tuned(training.arm)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
