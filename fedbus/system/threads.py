"""How PyTorch's idle threads wait; a program that computes imports this module first, which decides it.

OpenMP reads the environment once, when PyTorch is imported. By default its threads spin for several milliseconds at the
end of every parallel loop until the slowest arrives, which wastes most of the time where other programs need the
processors. Threads that sleep at once are woken several hundred times per training step, which costs time everywhere.
So they spin for some tenths of a millisecond, and then sleep. Figures: docs/threads.md.
"""

import os

SPIN_THEN_SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""GNU's OpenMP, which PyTorch's wheels for Linux contain, spins 20 000 times (some tenths of a millisecond), then
sleeps. Other OpenMP libraries know only the first variable, and sleep at once."""

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Every OpenMP library's ways to say how threads wait; if the user has set one, ours are not set."""


def waiting_policy() -> dict[str, str]:
    """The environment variables that decide how threads wait: the user's own or, if none is set, ours."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ} or SPIN_THEN_SLEEP


os.environ.update(waiting_policy())  # for this process and those that it will start; OpenMP reads it once
