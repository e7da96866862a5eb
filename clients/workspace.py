"""Which hospital this process works for, and where its prepared data lie."""

import hashlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from clients.ray_security import refuse_open_ray
from clients.site.folder import SiteFolder
from fedbus.datasets.registry import read_archive
from fedbus.errors import RunError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import settings_of_run
from fedbus.sites.prepare import prepare_sites
from fedbus.transport.messages import Instruction


@dataclass(frozen=True)
class Workspace:
    """One site as its own process sees it.

    Attributes:
        out: the folder in which its split is frozen.
        name: the site's.
        device: the study's `device` setting, which is each site's own.
        models: where a deployed site keeps the models that it receives; None in a simulation.
    """

    out: Path
    name: str
    device: str
    models: Path | None = None


def workspace_from_context(context: Context, instruction: Instruction) -> Workspace:
    """Find the site of a node that `flwr run .` started: the study's sites in order, one a partition.

    Its data are prepared on first use.

    Raises:
        RunError: there are more nodes than sites, or a Ray that asks for no token started us.
    """
    if "ray" in sys.modules:
        refuse_open_ray()
    settings = settings_of_run(context.run_config)
    names = list(settings.sites)
    index = int(context.node_config["partition-id"])
    if index >= len(names):
        raise RunError(
            f"This node is number {index + 1}, and the study has {len(names)} sites.",
            f"Set num-supernodes={len(names)}.",
        )
    return Workspace(_prepare(settings.model_dump_json(by_alias=True), names[index]), names[index], settings.device)


def workspace_in(folder: SiteFolder, instruction: Instruction) -> Workspace:
    """Find a deployed site's prepared images for the study of an order; they are prepared on first use.

    Raises:
        SettingsError: nobody has said where they are.
        ArchiveError, ImageError, SplitError: they can't be used.
    """
    own, (reader, data) = folder.settings, folder.source()
    places = {
        "sites": {own.name: {"reader": reader, "path": str(data)}},
        "cache": str(folder.cache),
        "device": own.device,
    }
    settings = build_settings(instruction.settings.as_dict() | places, "the hub's order")
    return Workspace(
        _prepare(settings.model_dump_json(by_alias=True), own.name, folder.work), own.name, own.device, folder.models
    )


@lru_cache(maxsize=64)
def _prepare(text: str, name: str, into: Path | None = None) -> Path:
    """Prepare a site once a process, in a folder named after settings and data: changed data get another."""
    settings = Settings.model_validate_json(text)
    source = settings.sites[name]
    data = read_archive(source.reader, source.path, name).digest
    key = hashlib.sha256((text + data).encode()).hexdigest()[:16]
    out = (into or settings.cache / "sites") / f"{name}-{key}"
    prepare_sites(settings, out, [name])
    return out
