"""The ClientApp of a simulation's workers, which reaches them as a few words.

Ray pickles the app into every message. Pickled as functions, it takes about 10 ms per message at the
driver; pickled as its arguments, it takes microseconds, and a worker builds it once.
"""

from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.app import make_client_app
from clients.workspace import Workspace
from fedbus.runs.site_keys import simulated_key
from fedbus.sites.site import read_facts
from fedbus.transport.messages import Instruction
from fedbus.transport.shared_memory import SharedArrays


class SimulatedSites(ClientApp):
    """Works for all sites of a run folder: node i for site i.

    Args:
        folder: The run folder in which the sites are prepared, on a path that every node of a cluster sees.
        device: The setting `device`.
        shared_arrays: Where models are stored that messages only refer to.
    """

    def __init__(self, folder: Path, device: str, shared_arrays: SharedArrays) -> None:
        super().__init__()
        self._arguments = folder, device, shared_arrays

    def __call__(self, message: Message, context: Context) -> Message:
        """Have the site of a node answer a message."""
        return _build(*self._arguments)(message, context)

    def __reduce__(self) -> tuple[type["SimulatedSites"], tuple[Path, str, SharedArrays]]:
        return SimulatedSites, self._arguments


@lru_cache(maxsize=1)
def _build(folder: Path, device: str, shared_arrays: SharedArrays) -> ClientApp:
    names = list(read_facts(folder))  # in the order of the settings

    def locate(context: Context, instruction: Instruction) -> Workspace:
        name = names[int(context.node_config["partition-id"])]
        return Workspace(folder, name, device, key=simulated_key(folder, name))

    return make_client_app(locate, expose_errors=True, shared_arrays=shared_arrays)
