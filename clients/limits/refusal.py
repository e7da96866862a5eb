"""The error of a site that refuses a study because of its own limits."""

from collections.abc import Sequence

from fedbus.errors import FedbusError


class RefusedError(FedbusError):
    """A study, or a step of it, that the site's limits do not allow.

    Its problem is sent to the hub, unlike that of any other error. It names settings, limits, classes and counts below
    a limit, never a file, a folder or a patient.
    """


def refusal(faults: Sequence[str]) -> RefusedError:
    """Make the error for what a site refuses, each fault in words."""
    return RefusedError(
        f"This site refuses the study: {'; '.join(faults)}.",
        "Ask the coordinator to change the settings, or change [limits] in site.toml and join again.",
    )
