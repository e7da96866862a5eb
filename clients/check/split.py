"""Try to prepare a site's images exactly as its first instruction would."""

from collections.abc import Callable
from pathlib import Path

import torch

from clients.limits.counts import check_counts
from clients.limits.refusal import RefusedError
from clients.limits.study import check_update
from clients.site.folder import SiteFolder
from fedbus.errors import SettingsError, SplitError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.inspection import Inspection
from fedbus.sites.prepare import prepare_sites
from fedbus.system.progress import Advance
from fedbus.system.scratch import scratch_folder
from fedbus.training.rows import TrainingRows, site_rows


def try_split(site: SiteFolder, inspection: Inspection, settings: Settings) -> tuple[int | None, str]:
    """Split and balance a site's images; those that the site's cache lacks are decoded into it.

    Returns:
        The optimiser steps of a round on the site's balanced rows, and ""; or None, and why the dataset can't be
        split or balanced, or which of the site's limits does not allow it, without the name of a file.

    Raises:
        RunError: If the disk is full.
    """
    name = site.settings.name
    if inspection.unsplittable:
        return None, _without_site(inspection.unsplittable, name)
    try:
        rows = try_rows(site, inspection.reader, inspection.root, settings)
    except (SplitError, SettingsError, RefusedError) as error:  # files were checked by the inspection
        return None, _without_site(error.problem, name)
    return rows.steps_per_round(settings), ""


def try_rows(
    site: SiteFolder,
    reader: str,
    root: Path,
    settings: Settings,
    progress: Callable[[str, int], Advance] | None = None,
) -> TrainingRows:
    """Split and balance a site's images for a run, and compare them with the site's limits; no split is kept.

    Args:
        site: The site.
        reader: Reader of the images.
        root: Folder of the images.
        settings: The run's settings.
        progress: Function that makes an `Advance` from the site's name and its number of images.

    Returns:
        The balanced training rows.

    Raises:
        ArchiveError, ImageError, SplitError: If the images can't be used.
        SettingsError: If they can't be balanced.
        RefusedError: If the site's limits do not allow it.
        RunError: If the disk is full.
    """
    name = site.settings.name
    overrides = {
        "sites": {name: {"reader": reader, "path": str(root)}},
        "cache": str(site.cache),
        "quorum": 0,  # the run's quorum may be higher than the one site here
        "privacy": "none",  # it needs three sites, and changes no row
    }
    own = build_settings(settings.as_dict() | overrides, "the check")
    # In the site's folder, not in the system's: the split contains the ids of patients.
    with scratch_folder(site.path, ".check-") as folder:
        prepared = prepare_sites(own, folder, progress=progress)[name]
    rows = site_rows(prepared, own, own.seeds[0], torch.device("cpu"))
    check_counts(prepared, site.settings.limits)
    if own.batches == "equal":  # otherwise the batches depend on the other sites
        check_update(rows, own, site.settings.limits)
    return rows


def _without_site(problem: str, name: str) -> str:
    """Keep the first sentence without the site's name, which is the table's title; the rest is for the coordinator."""
    return problem.removeprefix(f"{name}: ").partition(". ")[0].rstrip(".")
