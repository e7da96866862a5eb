"""Which site this process works for, and where its prepared images are stored."""

import hashlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from clients.ray_security import refuse_open_ray
from clients.site.folder import SiteFolder
from fedbus.datasets.registry import read_dataset
from fedbus.errors import RunError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import settings_of_run
from fedbus.sites.prepare import prepare_sites
from fedbus.system.files import make_private_folder
from fedbus.transport.messages import Instruction


@dataclass(frozen=True)
class Workspace:
    """What a process needs to know to work for one site.

    Attributes:
        folder: The folder with the site's split and prepared images.
        name: The site's name.
        device: The setting `device`, which every site chooses itself.
        models: Where a deployed site keeps the models that it receives; None in a simulation.
    """

    folder: Path
    name: str
    device: str
    models: Path | None = None


def workspace_from_context(context: Context, instruction: Instruction) -> Workspace:
    """Return the workspace of a node that `flwr run .` started: node i is site i of the settings.

    The images are prepared on first use.

    Raises:
        RunError: If there are more nodes than sites, or this is a Ray worker that requires no token.
    """
    if "ray" in sys.modules:
        refuse_open_ray()
    settings = settings_of_run(context.run_config)
    names = list(settings.sites)
    index = int(context.node_config["partition-id"])
    if index >= len(names):
        raise RunError(
            f"This is node {index + 1}, but the settings have {len(names)} sites.", f"Set num-supernodes={len(names)}."
        )
    return Workspace(_prepare(settings, names[index], settings.cache / "sites"), names[index], settings.device)


def workspace_of_site(folder: SiteFolder, instruction: Instruction) -> Workspace:
    """Return the workspace of a deployed site for the settings of an instruction.

    The images are prepared on first use.

    Raises:
        SettingsError: If the site's data have not been set.
        ArchiveError, ImageError, SplitError: If the data can't be used.
    """
    local, (reader, data) = folder.settings, folder.source()
    overrides = {
        "sites": {local.name: {"reader": reader, "path": str(data)}},
        "cache": str(folder.cache),
        "device": local.device,
    }
    settings = build_settings(instruction.settings.as_dict() | overrides, "the hub's instruction")
    return Workspace(_prepare(settings, local.name, folder.work), local.name, local.device, folder.models)


@lru_cache(maxsize=64)
def _prepare(settings: Settings, name: str, parent: Path) -> Path:
    """Prepare a site once per process, in a folder named after settings and data: changed data get another folder."""
    source = settings.sites[name]
    digest = read_dataset(source.reader, source.path, name).digest
    key = hashlib.sha256((settings.model_dump_json(by_alias=True) + digest).encode()).hexdigest()[:16]
    folder = parent / f"{name}-{key}"
    make_private_folder(parent)
    prepare_sites(settings, folder, [name])
    return folder
