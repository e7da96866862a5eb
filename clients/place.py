"""Which hospital this process works for, and where its prepared data lie."""

import hashlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from clients.folder import SiteFolder
from clients.ray_security import refuse_open_ray
from fedbus.datasets import read_archive
from fedbus.errors import RunError
from fedbus.sites import prepare_sites, study_of_run
from fedbus.study import Study
from fedbus.study_file import build_study
from fedbus.transport import Order


@dataclass(frozen=True)
class Place:
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


def place_from_context(context: Context, order: Order) -> Place:
    """Find the site of a node that `flwr run .` started: the study's sites in order, one a partition.

    Its data are prepared on first use.

    Raises:
        RunError: there are more nodes than sites, or a Ray that asks for no token started us.
    """
    if "ray" in sys.modules:
        refuse_open_ray()
    study = study_of_run(context.run_config)
    names = list(study.sites)
    index = int(context.node_config["partition-id"])
    if index >= len(names):
        raise RunError(
            f"This node is number {index + 1}, and the study has {len(names)} sites.",
            f"Set num-supernodes={len(names)}.",
        )
    return Place(_prepare(study.model_dump_json(by_alias=True), names[index]), names[index], study.device)


def place_in(folder: SiteFolder, order: Order) -> Place:
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
    study = build_study(order.study.as_dict() | places, "the hub's order")
    return Place(
        _prepare(study.model_dump_json(by_alias=True), own.name, folder.work), own.name, own.device, folder.models
    )


@lru_cache(maxsize=64)
def _prepare(settings: str, name: str, into: Path | None = None) -> Path:
    """Prepare a site once a process, in a folder named after settings and data: changed data get another."""
    study = Study.model_validate_json(settings)
    source = study.sites[name]
    data = read_archive(source.reader, source.path, name).digest
    key = hashlib.sha256((settings + data).encode()).hexdigest()[:16]
    out = (into or study.cache / "sites") / f"{name}-{key}"
    prepare_sites(study, out, [name])
    return out
