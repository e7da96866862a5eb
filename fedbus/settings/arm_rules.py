"""Which arms may stand in the settings of one comparison."""

from collections.abc import Sequence

from fedbus.settings.arms import CENTRAL_ARMS, STRATEGIES, blended_from, is_tuned, tuned_from
from fedbus.settings.explain import nearest


def check_arms(arms: Sequence[str]) -> None:
    """Check the names of arms, and that each has the arms that it is derived from.

    Raises:
        ValueError: If a name is unknown, or an arm is missing.
    """
    known = (*CENTRAL_ARMS, *STRATEGIES)
    for arm in arms:
        blendable = blended_from(arm) in ("centralised", *STRATEGIES)
        if arm not in known and tuned_from(arm) not in STRATEGIES and not blendable:
            raise ValueError(f"arms: unknown arm {arm!r}{nearest(arm, known)}")
        if is_tuned(arm) and tuned_from(arm) not in arms:
            raise ValueError(f"arms: {arm} fine-tunes {tuned_from(arm)}; add {tuned_from(arm)} to arms")
        lacking = [other for other in ("local", blended_from(arm)) if other not in arms]
        if blendable and lacking:
            raise ValueError(f"arms: {arm} blends {blended_from(arm)} with local; add {' and '.join(lacking)} to arms")
