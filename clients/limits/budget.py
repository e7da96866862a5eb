"""What differential privacy does not allow becomes a refusal of the site, which the hub is told by name."""

from collections.abc import Iterator
from contextlib import contextmanager

from clients.limits.limits import Limits
from clients.limits.refusal import refusal
from fedbus.privacy.patients import PrivacyError


@contextmanager
def budget_refusals(limits: Limits | None) -> Iterator[None]:
    """Refuse what raises `PrivacyError` inside the block.

    Args:
        limits: The limits of a deployed site; None in a simulation, in which the error itself is shown.

    Raises:
        RefusedError: With the error's text.
    """
    try:
        yield
    except PrivacyError as error:
        if limits is None:
            raise
        raise refusal([error.problem.rstrip(".")]) from error
