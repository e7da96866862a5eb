"""The figures of subgroups: each site's own model, the centralised one and the first federated arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedbus.evaluation.site_mean import Folds
from fedbus.evaluation.subgroups import measure_subgroups
from fedbus.settings.arms import OWN
from fedbus.settings.schema import Settings
from fedbus.sites.site import SUBGROUP_NOTES, frozen_split, read_facts
from fedbus.sites.subgroups import read_subgroups


def measure_site_subgroups(
    arms: Mapping[str, Folds], outs: Sequence[Path], sites: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Measure the subgroups of every site that has attributes.

    Args:
        arms: By arm its predictions, as `measure_places` takes them.
        outs: The run folder of each fold.
        sites: The sites' names.
        settings: The settings.

    Returns:
        By site what `measure_subgroups` returns, its "notes", and "unit": `patients`, or `groups` if no patient is
        known. A site with notes only has no "columns".
    """
    found: dict[str, Any] = {}
    facts = [read_facts(out) for out in outs]
    for site in sites:
        notes = facts[0][site].get(SUBGROUP_NOTES, [])
        columns = read_subgroups(outs[0], site)
        chosen = _arms_at(arms, site, settings)
        if not (columns and chosen):
            found |= {site: {"columns": [], "notes": notes}} if notes else {}
            continue
        splits = [frozen_split(out, site, each[site]) for out, each in zip(outs, facts, strict=True)]
        owners = {row.path: row.patient or row.group for split in splits for row in split.rows}
        measured = measure_subgroups(chosen, columns, owners, settings.bootstrap, settings.draw_seed)
        known = any(row.patient for row in splits[0].rows)
        found[site] = measured | {"unit": "patients" if known else "groups", "notes": notes}
    return found


def _arms_at(arms: Mapping[str, Folds], site: str, settings: Settings) -> dict[str, Folds]:
    """Choose the arms, as results call them, with their predictions on the test rows of one site."""
    names = {OWN: f"local-{site}", "centralised": "centralised"} | {arm: arm for arm in settings.federated_arms[:1]}
    return {
        shown: [[run.select(site) for run in runs] for runs in arms[name]]
        for shown, name in names.items()
        if name in arms
    }
