"""Which hospital this process works for, and where its prepared data lie."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from fedbus.datasets import read_archive
from fedbus.errors import RunError
from fedbus.sites import prepare_sites, study_of_run
from fedbus.study import Study


@dataclass(frozen=True)
class Place:
    """One site as its own process sees it.

    Attributes:
        out: the folder in which its split is frozen.
        name: the site's.
        device: the study's `device` setting, which is each site's own.
    """

    out: Path
    name: str
    device: str


def place_from_context(context: Context) -> Place:
    """Find this node's site: the study's sites in order, one a partition; its data are prepared on first use.

    Raises:
        RunError: there are more nodes than sites.
    """
    study = study_of_run(context.run_config)
    names = list(study.sites)
    index = int(context.node_config["partition-id"])
    if index >= len(names):
        raise RunError(
            f"This node is number {index + 1}, and the study has {len(names)} sites.",
            f"Set num-supernodes={len(names)}.",
        )
    return Place(_prepare(study.model_dump_json(by_alias=True), names[index]), names[index], study.device)


@lru_cache(maxsize=64)
def _prepare(settings: str, name: str) -> Path:
    """Prepare a site once a process, in a folder named after settings and data: changed data get another."""
    study = Study.model_validate_json(settings)
    source = study.sites[name]
    data = read_archive(source.reader, source.path, name).digest
    out = study.cache / "sites" / f"{name}-{hashlib.sha256((settings + data).encode()).hexdigest()[:16]}"
    prepare_sites(study, out, [name])
    return out
