"""Which hospital this process works for, and where its prepared data lie."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from fedbus.errors import RunError
from fedbus.sites import SITES_FILE, prepare_sites, study_of_run


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
    key = hashlib.sha256(study.model_dump_json().encode()).hexdigest()[:16]
    out = study.cache / "sites" / f"{names[index]}-{key}"
    if not (out / SITES_FILE).is_file():
        prepare_sites(study, out, [names[index]])
    return Place(out, names[index], study.device)
