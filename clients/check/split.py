"""Try to prepare a site's images exactly as its first instruction would."""

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
from fedbus.system.scratch import scratch_folder
from fedbus.training.rows import site_rows


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
    overrides = {
        "sites": {name: {"reader": inspection.reader, "path": str(inspection.root)}},
        "cache": str(site.cache),
        "quorum": 0,  # the run's quorum may be higher than the one site here
    }
    own = build_settings(settings.as_dict() | overrides, "the check")
    try:
        # In the site's folder, not in the system's: the split contains the ids of patients.
        with scratch_folder(site.path, ".check-") as folder:
            prepared = prepare_sites(own, folder)[name]
        rows = site_rows(prepared, own, own.seeds[0], torch.device("cpu"))
        check_counts(prepared, site.settings.limits)
        if own.batches == "equal":  # otherwise the batches depend on the other sites
            check_update(rows, own, site.settings.limits)
    except (SplitError, SettingsError, RefusedError) as error:  # files were checked by the inspection
        return None, _without_site(error.problem, name)
    return rows.steps_per_round(own), ""


def _without_site(problem: str, name: str) -> str:
    """Keep the first sentence without the site's name, which is the table's title; the rest is for the coordinator."""
    return problem.removeprefix(f"{name}: ").partition(". ")[0].rstrip(".")
