"""Which site this process works for, and where its prepared images are stored."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from clients.limits.answered_splits import check_split
from clients.limits.counts import check_counts
from clients.limits.disk import check_free_disk, mark_used, remove_old_folders, remove_old_images
from clients.limits.limits import Limits
from clients.limits.study import check_study
from clients.ray_security import refuse_open_ray
from clients.site.folder import SiteFolder
from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import read_dataset
from fedbus.errors import RunError
from fedbus.runs.folder import MAY_CHANGE
from fedbus.runs.site_keys import simulated_key
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import settings_of_run
from fedbus.sites.pixel_cache import PixelCache, stored_bytes
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import open_site, read_facts, split_path
from fedbus.sites.split import read_split
from fedbus.system.files import make_private_folder
from fedbus.transport.messages import TRAINING, Instruction

OnModel = Callable[[Path], object]


def ignore_model(folder: Path) -> None:
    """Do nothing with a received model."""


@dataclass(frozen=True)
class Workspace:
    """What a process needs to know to work for one site.

    Attributes:
        folder: The folder with the site's split and prepared images.
        name: The site's name.
        device: The setting `device`, which every site chooses itself.
        models: Where a deployed site keeps the models that it receives; None in a simulation.
        limits: What a deployed site refuses; None in a simulation.
        answered: Where a deployed site records the splits for which it has answered; None in a simulation.
        released: Where a deployed site records what it has released of each training; None in a simulation.
        key: The private key with which the site signs for secure aggregation.
        on_model: Called with the folder of every model that the site has received.
    """

    folder: Path
    name: str
    device: str
    models: Path | None = None
    limits: Limits | None = None
    answered: Path | None = None
    released: Path | None = None
    key: Path | None = None
    on_model: OnModel = ignore_model


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
    name, folder = names[index], settings.cache / "sites"
    return Workspace(_prepare(settings, name, folder), name, settings.device, key=simulated_key(settings.cache, name))


def workspace_of_site(folder: SiteFolder, instruction: Instruction, on_model: OnModel = ignore_model) -> Workspace:
    """Return the workspace of a deployed site for the settings of an instruction.

    The images are prepared on first use, after the settings have been checked against the site's limits.

    Raises:
        RefusedError: If the site's limits do not allow the study.
        SettingsError: If the site's data have not been set.
        ArchiveError, ImageError, SplitError: If the data can't be used.
    """
    local, (reader, data) = folder.settings, folder.source()
    training = instruction.task == TRAINING
    check_free_disk(folder.path, check_study(instruction.settings, local.limits, training=training), local.limits)
    overrides = {
        "sites": {local.name: {"reader": reader, "path": str(data)}},
        "cache": str(folder.cache),
        "device": local.device,
    }
    settings = build_settings(instruction.settings.as_dict() | overrides, "the hub's instruction")
    prepared = _prepare_at_site(folder, settings)
    mark_used(prepared)
    return Workspace(
        prepared, local.name, local.device, folder.models, local.limits, folder.answered, folder.released, folder.key,
        on_model,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _prepare_at_site(folder: SiteFolder, settings: Settings) -> Path:
    """Prepare a deployed site once per process, check what would leave it, and remove what was used longest ago."""
    name, limits = folder.settings.name, folder.settings.limits
    manifest = _read_manifest(settings, name)
    if PixelCache.of(settings).load(manifest) is None:
        check_free_disk(folder.path, stored_bytes(len(manifest.rows), settings.image_size), limits)
    prepared = _prepared_folder(settings, name, folder.work, manifest)
    prepare_sites(settings, prepared, [name])
    pixels = Path(read_facts(prepared)[name]["pixels"])
    mark_used(prepared, pixels)
    removed = remove_old_folders(folder.work, prepared), remove_old_images(folder.cache, {pixels})
    if any(removed):
        _prepare_at_site.cache_clear()  # it may know a folder that has been removed
    check_counts(open_site(prepared, name), limits)
    path = split_path(prepared, name)
    check_split(read_split(name, path), path, folder.answered, limits)
    return prepared


@lru_cache(maxsize=64)
def _prepare(settings: Settings, name: str, parent: Path) -> Path:
    """Prepare a site once per process, in a folder named after settings and data: changed data get another folder."""
    folder = _prepared_folder(settings, name, parent, _read_manifest(settings, name))
    prepare_sites(settings, folder, [name])
    return folder


def _read_manifest(settings: Settings, name: str) -> Manifest:
    source = settings.sites[name]
    return read_dataset(source.reader, source.path, name)


def _prepared_folder(settings: Settings, name: str, parent: Path, manifest: Manifest) -> Path:
    """Return the folder for a site's settings and data, in a folder that only its owner can enter."""
    make_private_folder(parent)
    # What a resumed run may change must not change the folder: it also contains the site's own BatchNorm.
    may_change = {key.replace("-", "_") for key in MAY_CHANGE}
    content = settings.model_dump_json(by_alias=True, exclude=may_change) + manifest.digest
    return parent / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
