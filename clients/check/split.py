"""Try to prepare a site's images exactly as its first order would."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from clients.site.folder import SiteFolder
from fedbus.errors import SettingsError, SplitError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.inspection import Inspection
from fedbus.sites.prepare import prepare_sites
from fedbus.system.progress import Advance
from fedbus.training.rows import site_rows

MakeAdvance = Callable[[str, int], Advance]
"""Makes an `Advance` from the site's name and its number of pictures."""


def try_split(
    site: SiteFolder, inspection: Inspection, settings: Settings, progress: MakeAdvance
) -> tuple[int | None, str]:
    """Decode at the study's size, split and balance; the decoded pictures stay in the site's cache, for when it joins.

    Returns:
        Optimiser steps that a round takes on the site's balanced rows, and no words; or None, and why the study can't
        part or balance the archive, naming no file.

    Raises:
        RunError: the disk is full.
    """
    name = site.settings.name
    if inspection.unsplittable:
        return None, _plain(inspection.unsplittable, name)
    places = {
        "sites": {name: {"reader": inspection.reader, "path": str(inspection.root)}},
        "cache": str(site.cache),
        "quorum": 0,  # the federation's, while only one site is named here
    }
    own = build_settings(settings.as_dict() | places, "the check")
    try:
        with tempfile.TemporaryDirectory(dir=site.path, prefix=".check-") as folder:  # patient ids stay in the site's
            prepared = prepare_sites(own, Path(folder), progress=progress)[name]
        rows = site_rows(prepared, own, own.seeds[0], torch.device("cpu"))
    except (SplitError, SettingsError) as error:  # of folds, limit or sampler: a problem with files was told above
        return None, _plain(error.problem, name)
    return rows.steps_per_round(own), ""


def _plain(problem: str, name: str) -> str:
    """Leave out the site's name, which stands above the table, and advice that is the coordinator's to take."""
    return problem.removeprefix(f"{name}: ").partition(". ")[0].rstrip(".")
