"""How many files a process may have open."""

import sys
from contextlib import suppress

ENOUGH = 65_536
"""Open files of the largest simulations: each of a thousand sites has its images mapped, and then its update."""


def allow_many_files() -> None:
    """Raise this process's limit of open files to `ENOUGH`, or as far as the system allows; often it is 1024."""
    if sys.platform == "win32":
        return  # it has no such limit
    import resource

    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if most == resource.RLIM_INFINITY else min(ENOUGH, most)
    if least == resource.RLIM_INFINITY or least >= wanted:
        return
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
