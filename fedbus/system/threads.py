"""How PyTorch's idle threads wait; a program that computes imports this module first, which decides it.

OpenMP reads the environment once, when PyTorch is imported. By default its threads spin at the end of every parallel
loop until the slowest arrives: where other programs need the processors, most of the time is wasted. Figures, also of
what sleeping costs on a quiet machine: docs/performance.md, "A machine that others use".
"""

import os

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Every OpenMP library's ways to say how threads wait; one that the user has set is left alone."""


def waiting_policy() -> dict[str, str]:
    """The environment variables that decide how threads wait: the user's own or, if none is set, ours."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ} or PASSIVE


os.environ.update(waiting_policy())  # for this process and those that it will start; OpenMP reads it once
