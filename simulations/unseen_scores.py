"""Gather the content of `scores.json`: metrics at a new site, and paired differences of the federated arms."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from fedbus.classes import CLASSES
from fedbus.evaluation.measured import Measured, measure
from fedbus.evaluation.predictions import Predictions
from fedbus.models.batch_norm import OWN_PARTS
from fedbus.settings.arms import is_federated
from fedbus.settings.schema import Settings
from fedbus.sites.unseen_site import UnseenSite


def assemble_scores(
    runs: Mapping[str, Mapping[str, Sequence[Predictions]]],
    unseen: UnseenSite,
    settings: Settings,
    sites: Sequence[str],
    skipped: Mapping[str, str],
    *,
    phantoms: bool,
) -> dict[str, Any]:
    """Build the content of `scores.json`, which names no file, folder or patient.

    Args:
        runs: By arm and BatchNorm statistics, the predictions of each seed.
        unseen: The new site.
        settings: Settings of the run.
        sites: The sites of the run.
        skipped: Why arms of the run are not scored, by name.
        phantoms: Whether images are synthetic.
    """
    measured = {
        arm: {kind: measure(seeds, settings.bootstrap, settings.draw_seed) for kind, seeds in kinds.items()}
        for arm, kinds in runs.items()
    }
    return {
        "fedbus": metadata.version("fedbus"),
        "phantoms": phantoms,
        "classes": list(CLASSES),
        "site": _site_facts(unseen),
        "trained_at": list(sites),
        "batch_norm": settings.batch_norm,
        "mean_of_sites": [arm for arm in runs if is_federated(arm) and settings.batch_norm in OWN_PARTS],
        "arms": {arm: {kind: each.summary() for kind, each in kinds.items()} for arm, kinds in measured.items()},
        "differences": _differences(measured),
        "skipped": dict(skipped),
    }


def _site_facts(unseen: UnseenSite) -> dict[str, Any]:
    rows = unseen.site.splits["test"]
    counts = np.bincount(unseen.site.labels[rows], minlength=len(CLASSES)).tolist()
    return {
        "name": unseen.site.name,
        "reader": unseen.reader,
        "images": unseen.images,
        "tested": dict(zip(CLASSES, counts, strict=True)),
        "patients": unseen.patients,
        "groups": len(set(unseen.site.groups[rows].tolist())),
        "left_out": {"conflicting_labels": unseen.conflicting, "in_run": unseen.in_run},
    }


def _differences(measured: Mapping[str, Mapping[str, Measured]]) -> list[dict[str, Any]]:
    """Compare each federated arm with the centralised one and the local ones, under equal BatchNorm statistics."""
    references = [arm for arm in measured if not is_federated(arm)]
    references.sort(key=lambda arm: arm != "centralised")  # stable: it comes before the local arms
    return [
        {"arm": arm, "reference": reference, "batch_norm": kind, "metric": metric, **value}
        for arm in measured
        if is_federated(arm)
        for reference in references
        for kind in measured[arm]
        for metric, value in measured[arm][kind].minus(measured[reference][kind]).items()
        if value is not None
    ]
