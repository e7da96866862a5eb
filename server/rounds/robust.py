"""Parameters of the robust strategies, from the number of updates in a round, or the reason why one can't protect.

With Flower's defaults, FedTrimmedAvg trims nobody of fewer than five sites, Bulyan expects no hostile site and then is
a plain average, and the median of two values is their mean. Here each robust arm expects a fifth of the sites to be
hostile, and at least one; an arm that can't withstand one is refused.

Sources: Yin et al., ICML 2018 (median and trimmed mean: n >= 2f + 1); Blanchard et al., NeurIPS 2017 (Krum:
n >= 2f + 3); El Mhamdi et al., ICML 2018 (Bulyan: n >= 4f + 3). One hostile update among three does not mislead Krum
either: it can only be chosen if it is closer to an honest update than the two honest ones are to each other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedbus.errors import SettingsError
from fedbus.settings.schema import Settings

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy  # slow, and `fedbus compare` calls only `check_robust_arms` at first

SITES_PER_HOSTILE = 5
"""One site of this many is expected to be hostile."""

UPDATES_NEEDED: dict[str, Callable[[int], int]] = {
    "fedmedian": lambda hostile: 2 * hostile + 1,
    "fedtrimmedavg": lambda hostile: 2 * hostile + 1,
    "krum": lambda hostile: 3 if hostile == 1 else 2 * hostile + 3,
    "multikrum": lambda hostile: 3 if hostile == 1 else 2 * hostile + 3,
    "bulyan": lambda hostile: 4 * hostile + 3,
}
"""The number of updates with which a robust arm withstands a number of hostile ones."""

BETA, HOSTILE, SELECTED = "beta", "num-malicious-nodes", "num-nodes-to-select"
"""Parameters of Flower's robust strategies."""


def check_robust_arms(settings: Settings, sites: int) -> None:
    """Check that every robust arm of some settings withstands a hostile site, before anything is trained.

    Raises:
        SettingsError: As `check_robust`.
    """
    for arm in settings.federated_arms:
        check_robust(arm, settings, settings.quorum or sites)


def check_robust(arm: str, settings: Settings, updates: int) -> None:
    """Check that an arm, if it is robust, withstands a hostile site.

    Args:
        arm: A federated arm.
        settings: The settings; options that they set must withstand one too.
        updates: The smallest number of updates of a round: the quorum, or all sites.

    Raises:
        SettingsError: If it does not.
    """
    if arm not in UPDATES_NEEDED:
        return
    options = settings.strategy_options.get(arm, {})
    hostile = _hostile(arm, updates, options)
    needed = UPDATES_NEEDED[arm](max(hostile, 1))
    if updates < needed:
        raise SettingsError(
            f"{arm} protects against {max(hostile, 1)} hostile site(s) with {needed} updates per round or more; here a "
            f"round can have {updates} (the quorum, or all sites).",
            "Add sites, raise the quorum, or choose another arm; the robust ones except bulyan need three updates.",
        )
    selected = options.get(SELECTED, 1)
    if hostile < 1 or not 1 <= selected <= updates - hostile:
        names = ", ".join(f"{key} = {options[key]}" for key in (BETA, HOSTILE, SELECTED) if key in options)
        raise SettingsError(
            f"strategy-options.{arm}: with {names}, a hostile site among {updates} is averaged like the others.",
            "Leave the option out: it follows from the number of sites.",
        )


def set_parameters(strategy: "Strategy", arm: str, settings: Settings, updates: int) -> None:
    """Set the parameters of a robust strategy that the settings leave open, before it aggregates some updates."""
    if arm not in UPDATES_NEEDED:
        return
    options = settings.strategy_options.get(arm, {})
    hostile = _hostile(arm, updates, options)
    parameters: dict[str, float] = {HOSTILE: hostile, SELECTED: 1 if arm == "krum" else max(1, updates - hostile)}
    if arm == "fedtrimmedavg":
        # Flower trims int(beta * updates) on each side; the quarter keeps rounding from trimming one less.
        parameters = {BETA: (hostile + 0.25) / updates}
    for key, value in parameters.items():
        name = key.replace("-", "_")
        if key not in options and hasattr(strategy, name):
            setattr(strategy, name, value)


def _hostile(arm: str, updates: int, options: dict[str, Any]) -> int:
    """Return how many hostile updates an arm expects among some: by its options, or as many as it can withstand."""
    if arm == "fedtrimmedavg" and BETA in options:
        return int(options[BETA] * updates)
    if HOSTILE in options:
        return int(options[HOSTILE])
    hostile = max(1, updates // SITES_PER_HOSTILE)
    while hostile > 1 and UPDATES_NEEDED[arm](hostile) > updates:
        hostile -= 1
    return hostile
