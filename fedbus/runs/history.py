"""One line of an arm's history: what is recorded of a finished round, by every engine."""

from collections.abc import Iterable, Mapping
from typing import Any


def round_line(
    number: int,
    *,
    loss: float,
    private: bool,
    steps: int,
    seconds: float,
    site_seconds: Mapping[str, float],
    participants: Iterable[str],
    refused: Mapping[str, str],
    epsilon: Mapping[str, float | None],
) -> dict[str, Any]:
    """Describe a finished round.

    Args:
        number: The round, from 1.
        loss: The mean training loss.
        private: Whether the training has differential privacy, which does not cover this loss: then it is not recorded.
        steps: The optimiser steps of all sites together.
        seconds: How long the round took.
        site_seconds: How long each site took; empty if nobody may know.
        participants: The sites whose updates are in the model.
        refused: Why those of other sites are not, by site.
        epsilon: What each site has spent of its budget of differential privacy; None if it has none.
    """
    spent = {site: value for site, value in epsilon.items() if value is not None}
    return {
        "round": number,
        "train_loss": None if private else loss,
        "steps": steps,
        "seconds": seconds,
        "site_seconds": dict(site_seconds),
        "participants": list(participants),
        "refused": dict(refused),
        **({"epsilon": spent} if spent else {}),
    }
