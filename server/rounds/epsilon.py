"""What the sites report of their budgets of differential privacy, as the hub checks it."""

from fedbus.settings.schema import Settings

MARGIN = 1e-6
"""Relative error of an epsilon that two machines compute from the same numbers."""


def epsilon_fault(epsilon: float | None, settings: Settings) -> str | None:
    """Return why a site's epsilon after a training round does not agree with the settings' budget, or None if it does.

    Args:
        epsilon: The epsilon that the site has spent; None if it reports none.
        settings: The settings.
    """
    if not settings.dp_epsilon:
        return None
    if epsilon is None:
        return "it reports no epsilon, so it trained without differential privacy"
    if not 0 <= epsilon <= settings.dp_epsilon * (1 + MARGIN):  # NaN fails too
        return f"it has spent an epsilon of {epsilon:g}, more than dp-epsilon = {settings.dp_epsilon:g}"
    return None
