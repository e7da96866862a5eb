"""The version of Flower that FedBUS works with.

Parts of FedBUS use modules of Flower that are not public, and any release may change those. They are imported only in
`server/flower_internals.py` and `clients/flower_internals.py`, which call `check_flower_version` first.
"""

from importlib import metadata

from fedbus.errors import RunError

FLOWER_VERSION = "1.41.0"
"""The same version as in `pyproject.toml`."""


def check_flower_version() -> None:
    """Check that the installed Flower is the supported version.

    Raises:
        RunError: If another version is installed.
    """
    installed = metadata.version("flwr")
    if installed != FLOWER_VERSION:
        raise RunError(
            f"FedBUS works with flwr {FLOWER_VERSION}; {installed} is installed.",
            f"Install the supported version: pip install flwr=={FLOWER_VERSION}",
        )
