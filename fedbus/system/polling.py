"""How long to wait between two polls: briefly while something is expected soon, longer the longer nothing has come."""

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 0.5
"""A poll of Flower's API costs its server about 5 ms of a processor."""

SHARE = 0.02
"""Of the time since the last event: what comes after a minute may be found half a second later."""


def pause_after(seconds: float) -> float:
    """Return how long to wait before the next poll, this many seconds after the last event."""
    return min(max(SHORTEST_SECONDS, SHARE * seconds), LONGEST_SECONDS)
