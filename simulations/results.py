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
from fedbus.evaluation.evaluate import differences, evaluate
from fedbus.evaluation.predictions import Predictions
from fedbus.reports.comparison.results import assemble
from fedbus.settings.schema import STRATEGIES, Settings, tuned_from
from fedbus.sites.site import Site, read_facts
from fedbus.training.rows import site_rows
from simulations.arm import Arm

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
    return assemble(
        settings,
        out,
        {name: [arm.folder for arm, _ in pairs] for name, pairs in runs.items()},
        phantoms=phantoms,
        sites={name: _site_facts(facts, settings, sites[name]) for name, facts in read_facts(out).items()},
        arms={name: score_everywhere(seeds, list(sites), settings) for name, seeds in predictions.items()},
        differences=all_differences(predictions, list(sites), settings),
    )


def score_everywhere(runs: list[Predictions], sites: list[str], settings: Settings) -> dict[str, Any]:
    """Compute one arm's metrics with intervals, at each site and on `all` test rows."""
    return {
        place: evaluate(select_place(runs, place), settings.bootstrap, settings.draw_seed) for place in (*sites, "all")
    }


def select_place(runs: Sequence[Predictions], place: str) -> list[Predictions]:
    """Select the rows of a site from the predictions of each seed, or of `all` sites."""
    return list(runs) if place == "all" else [run.select(place) for run in runs]


def all_differences(
    predictions: Mapping[str, list[Predictions]], sites: list[str], settings: Settings
) -> list[dict[str, Any]]:
    """Compare each federated arm with the others, paired by test row.

    It is compared with the centralised arm everywhere, and with each local model at its own site and on `all`.
    """
    found = []
    for arm in (name for name in predictions if (tuned_from(name) or name) in STRATEGIES):
        pairs = [("centralised", place) for place in ("all", *sites)]
        pairs += [(f"local-{site}", place) for site in sites for place in ("all", site)]
        for reference, place in pairs:
            if reference not in predictions:
                continue
            ours, theirs = (select_place(predictions[name], place) for name in (arm, reference))
            metrics = differences(ours, theirs, settings.bootstrap, settings.draw_seed)
            found += [
                {"arm": arm, "reference": reference, "site": place, "metric": metric, **value}
                for metric, value in metrics.items()
                if value is not None
            ]
    return found


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
