"""One process at a time takes part as a site: its key can't be used twice."""

from contextlib import AbstractContextManager

from clients.site.folder import SiteFolder
from fedbus.system import locks

JOINED = ".joined"


def hold(site: SiteFolder) -> AbstractContextManager[None]:
    """Hold the site's lock; the system lets go of it when this process ends, whatever ends it.

    Raises:
        RunError: another process holds it, or the folder can't be written.
    """
    taken = f"{site.settings.name} is joined already"
    return locks.hold(site.path / JOINED, taken, "End that one with Ctrl-C there, or let it work.")


def is_held(site: SiteFolder) -> bool:
    """Whether a process holds the site's lock, so that its key is in use.

    Raises:
        RunError: the lock's file can't be read.
    """
    return locks.is_held(site.path / JOINED)
