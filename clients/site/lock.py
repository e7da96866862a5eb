"""The lock of a joined site: its key can be used by one process at a time."""

from contextlib import AbstractContextManager

from clients.site.folder import SiteFolder
from fedbus.system import locks

JOINED = ".joined"


def hold(site: SiteFolder) -> AbstractContextManager[None]:
    """Hold the site's lock; the system releases it when this process ends, also after a kill.

    Raises:
        RunError: If another process holds it, or the folder can't be written.
    """
    return locks.hold(
        site.path / JOINED, f"{site.settings.name} is already joined", "Wait for it to end, or end it with Ctrl-C."
    )


def is_held(site: SiteFolder) -> bool:
    """Whether a process holds the site's lock, and so uses its key.

    Raises:
        RunError: If the lock's file can't be read.
    """
    return locks.is_held(site.path / JOINED)
