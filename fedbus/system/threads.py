"""How PyTorch's idle threads wait; must be decided before PyTorch is imported, by this process or its parent.

By default OpenMP threads spin at the end of every parallel loop until the slowest arrives. Where other programs need
the processors, most of the time is wasted: a step on two busy cores took 4.6 s, and 0.8 s with sleeping threads.
"""

import os

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Every OpenMP library's ways to say how threads wait; one that the user has set is left alone."""


def waiting_policy() -> dict[str, str]:
    """The environment variables that decide how threads wait: the user's own or, if none is set, ours."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ} or PASSIVE


def let_threads_sleep() -> None:
    """Apply the policy to this process and to those that it will start."""
    os.environ.update(waiting_policy())
