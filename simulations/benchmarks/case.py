"""One small comparison, prepared once, on which a part of the benchmark measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.seeds import derive_seed
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site


@dataclass(frozen=True)
class Case:
    """Settings with everything that training needs before its first step.

    Attributes:
        settings: The settings, with all sites.
        out: The folder in which the sites are prepared.
        sites: The prepared sites, by name.
        start: The weights that every run starts from.
    """

    settings: Settings
    out: Path
    sites: Mapping[str, Site]
    start: State


def make_case(out: Path, values: Mapping[str, Any]) -> Case:
    """Prepare the sites and the start weights; three synthetic sites (phantoms) if the settings name none.

    Args:
        out: Folder for phantoms, decoded images and prepared sites.
        values: Settings, with TOML's keys.

    Raises:
        FedbusError: If the settings, a dataset or the weights can't be used.
    """
    settings = resolve_sites(build_settings({"cache": str(out / "cache"), **values}, "the benchmark"))
    sites = prepare_sites(settings, out)
    return Case(
        settings, out, sites, start_state(settings.model, settings.weights, derive_seed(settings.seeds[0], "init"))
    )
