"""Which arms the settings of one comparison can have."""

from collections.abc import Iterable, Sequence

from fedbus.settings.arms import AVERAGING, CENTRAL_ARMS, ROBUST, STRATEGIES, blended_from, is_tuned, tuned_from
from fedbus.settings.explain import nearest


def check_arms(arms: Sequence[str], options: Iterable[str], head: str, batch_norm: str, engine: str) -> None:
    """Check the names of arms, that each has the arms that it is derived from, and that other settings allow them.

    Args:
        arms: The setting `arms`.
        options: The arms in the setting `strategy-options`.
        head: The setting `head`.
        batch_norm: The setting `batch-norm`.
        engine: The setting `engine`.

    Raises:
        ValueError: If a name is unknown, an arm is missing, or an arm and another setting contradict each other.
    """
    for arm in arms:
        _check_arm(arm, arms)
    for arm in options:
        if arm not in STRATEGIES:
            raise ValueError(f"strategy-options: unknown strategy {arm!r}{nearest(arm, STRATEGIES)}")
    federated = [arm for arm in arms if arm in STRATEGIES]
    robust, others = [a for a in federated if a in ROBUST], [a for a in federated if a not in AVERAGING]
    not_averaging = f"{others[0]} is not one" if len(others) == 1 else f"{', '.join(others)} are not"
    if head == "by-class" and others:
        raise ValueError(f"head=by-class needs an averaging strategy ({', '.join(AVERAGING)}); {not_averaging}")
    if batch_norm == "pooled" and robust:
        raise ValueError(
            f"batch-norm=pooled can't be combined with {', '.join(robust)}: robust strategies discard sites"
        )
    if engine == "in-process" and others:
        raise ValueError(f"engine=in-process knows {' and '.join(AVERAGING)}; {not_averaging}: use engine=flower")


def _check_arm(arm: str, arms: Sequence[str]) -> None:
    """Check the name of one of the arms, and that they include those that it is derived from."""
    known = (*CENTRAL_ARMS, *STRATEGIES)
    blendable = blended_from(arm) in ("centralised", *STRATEGIES)
    if arm not in known and tuned_from(arm) not in STRATEGIES and not blendable:
        raise ValueError(f"arms: unknown arm {arm!r}{nearest(arm, known)}")
    if is_tuned(arm) and tuned_from(arm) not in arms:
        raise ValueError(f"arms: {arm} fine-tunes {tuned_from(arm)}; add {tuned_from(arm)} to arms")
    lacking = [other for other in ("local", blended_from(arm)) if other not in arms]
    if blendable and lacking:
        raise ValueError(f"arms: {arm} blends {blended_from(arm)} with local; add {' and '.join(lacking)} to arms")
