"""Keys of the sites of a simulation, which sign for secure aggregation as the keys of deployed sites do.

OUT/keys/SITE.key
"""

from collections.abc import Iterable
from pathlib import Path

from fedbus.deployment.keys import public_line
from fedbus.deployment.private_key import read_private_key, write_new_key
from fedbus.deployment.roster import roster_line
from fedbus.system.files import make_private_folder


def simulated_key(folder: Path, name: str) -> Path:
    """Return the file of a simulated site's key; `folder` is the one in which the sites are prepared."""
    return folder / "keys" / f"{name}.key"


def make_simulated_keys(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Make a key for each site that has none.

    Args:
        folder: The folder in which the sites are prepared.
        names: The sites.

    Returns:
        The sites with their public keys, as in `Instruction`.

    Raises:
        OSError, RunError: If a file can't be written, or is damaged.
    """
    lines = []
    for name in names:
        path = simulated_key(folder, name)
        if not path.is_file():
            make_private_folder(path.parent)
            write_new_key(path)
        key = read_private_key(path, "Delete it; a new one is made.")
        lines.append(roster_line(name, public_line(key.public_key(), name)))
    return tuple(lines)
