"""Gather the content of `results.json`: metrics with intervals, paired differences, and facts about the run."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.datasets.registry import find_reader
from fedbus.evaluation.claims import claims
from fedbus.evaluation.measured import Measured
from fedbus.evaluation.predictions import Predictions, join
from fedbus.evaluation.site_known import predict_class_shares
from fedbus.evaluation.site_mean import ALL, MEAN, Folds, measure_places
from fedbus.reports.comparison.results import assemble
from fedbus.settings.arms import OWN, blended_from, is_federated
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site, read_facts
from fedbus.training.rows import site_rows
from simulations.arm import Arm
from simulations.subgroups import measure_site_subgroups

SAMPLES = 3
"""Images of each class and site on the report page."""


def gather(
    settings: Settings,
    out: Path,
    sites: Mapping[str, Site],
    runs: Mapping[str, list[tuple[Arm, Predictions]]],
    *,
    phantoms: bool,
) -> dict[str, Any]:
    """Build the content of `results.json`.

    Args:
        settings: The settings.
        out: The run folder.
        sites: The prepared sites, by name.
        runs: For each arm's name, one pair (arm, predictions) per seed.
        phantoms: Whether the images are synthetic.
    """
    predictions = {name: [p for _, p in pairs] for name, pairs in runs.items()}
    facts, names = read_facts(out), list(sites)
    folds = {name: [seeds] for name, seeds in predictions.items()}
    measured = measure_arms(folds, names, settings)
    gaps = {name: gap(measured[name], measured, names) for name in measured if is_federated(name)}
    first = next(iter(predictions.values()))[0]
    return assemble(
        settings,
        out,
        {name: [arm.folder for arm, _ in pairs] for name, pairs in runs.items()},
        phantoms=phantoms,
        sites={name: _site_facts(facts[name], settings, sites[name]) for name in facts},
        arms={name: summaries(places) for name, places in measured.items()},
        differences=[
            {"arm": arm, "reference": reference, "site": place, "metric": metric, **value}
            for arm, references in gaps.items()
            for reference, places in references.items()
            for place, metrics in places.items()
            for metric, value in metrics.items()
            if value is not None
        ],
        claims={name: claims(found) for name, found in gaps.items()},
        site_known=measure_site_known([(first, facts)], names, settings),
        subgroups=measure_site_subgroups(folds, [out], names, settings),
    )


def measure_arms(arms: Mapping[str, Folds], sites: Sequence[str], settings: Settings) -> dict[str, dict[str, Measured]]:
    """Measure arms everywhere; if every site has a model of its own, also `local`: each site with its own model.

    Args:
        arms: Predictions by arm, as `measure_places` takes them.
        sites: The sites' names.
        settings: The settings.
    """
    own = [arms.get(f"local-{site}") for site in sites]
    found = dict(arms)
    if all(own):
        found = {OWN: _own_predictions([folds for folds in own if folds], sites), **found}
    return {name: measure_arm(folds, sites, settings) for name, folds in found.items()}


def _own_predictions(own: Sequence[Folds], sites: Sequence[str]) -> Folds:
    """Join the rows of each site as its own model predicts them; `own` has the predictions of each site's model."""
    return [
        [join([run.select(site) for site, run in zip(sites, runs, strict=True)]) for runs in zip(*seeds, strict=True)]
        for seeds in zip(*own, strict=True)
    ]


def measure_arm(folds: Folds, sites: Sequence[str], settings: Settings) -> dict[str, Measured]:
    """Measure one arm at each site, on `all` test rows, and as the `mean` over sites; folds as `measure_places`."""
    return measure_places(folds, sites, settings.bootstrap, settings.draw_seed)


def summaries(places: Mapping[str, Measured]) -> dict[str, Any]:
    """Summarise one arm's metrics with intervals, by place."""
    return {place: measured.summary() for place, measured in places.items()}


def measure_site_known(
    folds: Sequence[tuple[Predictions, Mapping[str, Any]]], sites: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Measure what knowing only the hospital is worth, by place.

    Args:
        folds: For each fold its test rows, and the facts of its sites with the class counts of the training rows.
        sites: The sites' names.
        settings: The settings.
    """
    known = [
        [predict_class_shares(rows, {name: facts[name]["splits"]["train"] for name in sites})] for rows, facts in folds
    ]
    return summaries(measure_arm(known, sites, settings))


def gap(
    arm: Mapping[str, Measured], references: Mapping[str, Mapping[str, Measured]], sites: Sequence[str]
) -> dict[str, Any]:
    """Compare a federated arm with centralised ones everywhere, and with the sites' own models.

    All own models together are compared as the `mean` and on `all`, each one at its site and on `all`.

    Args:
        arm: The arm's metrics by place.
        references: Those of other arms by name; arms that are not compared with are ignored.
        sites: The sites' names.

    Returns:
        Paired differences by reference, place and metric, None where a metric is undefined.
    """
    pooled = [name for name in references if (blended_from(name) or name) == "centralised"]
    places: dict[str, tuple[str, ...]] = dict.fromkeys(pooled, (MEAN, ALL, *sites))
    places |= {OWN: (MEAN, ALL)} if OWN in references else {}
    places |= {f"local-{site}": (ALL, site) for site in sites if f"local-{site}" in references}
    return {
        name: {place: arm[place].minus(references[name][place]) for place in found} for name, found in places.items()
    }


def sample_images(sites: Mapping[str, Site]) -> dict[str, dict[str, list[bytes]]]:
    """Choose the first few training images of each site and class, as PNG files."""
    found: dict[str, dict[str, list[bytes]]] = {}
    for name, site in sites.items():
        train = np.unique(site.splits["train"])  # rows repeat where they were over-sampled before the split
        found[name] = {
            label: [_png(site.pixels[row]) for row in train[site.labels[train] == index][:SAMPLES]]
            for index, label in enumerate(CLASSES)
        }
    return found


def _site_facts(facts: dict[str, Any], settings: Settings, site: Site) -> dict[str, Any]:
    reader = find_reader(facts["reader"])
    rows = site_rows(site, settings, settings.seeds[0], torch.device("cpu"))
    counts = np.bincount(rows.labels.numpy(), minlength=len(CLASSES))
    kept = {key: value for key, value in facts.items() if key != "pixels"}
    return kept | {
        "citation": reader.citation,
        "terms": reader.terms,
        "balanced": {name: int(counts[index]) for index, name in enumerate(CLASSES)},
    }


def _png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(out, "PNG")
    return out.getvalue()
