"""Examples for the report: test images that a federated arm classified right and wrong, and where the arms looked."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.errors import ExplainError
from fedbus.evaluation.predictions import Predictions
from fedbus.explain.grad_cam import compute_maps
from fedbus.explain.overlay import blend
from fedbus.explain.spatial_layer import SpatialLayer, spatial_layer_of
from fedbus.model_folder.apply import open_model
from fedbus.model_folder.read import read_model
from fedbus.seeds import derive_seed
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm, list_arms

PIXELS = 128
"""Width and height of an example on the page."""


def explained_examples(
    settings: Settings, out: Path, sites: Mapping[str, Site], runs: Mapping[str, list[tuple[Arm, Predictions]]]
) -> dict[str, Any]:
    """Choose up to three test images of each site, and explain what each arm predicts for them.

    Args:
        settings: The settings.
        out: The run folder, whose arms are model folders.
        sites: The prepared sites, by name.
        runs: For each arm's name, one pair (arm, predictions) per seed; the first seed is shown.

    Returns:
        {"reference", "reason", "sites": {site: [{"kind", "label", "image", "maps": [{"arm", "predicted",
        "probability", "image"}]}]}}, images as PNG bytes; `reason` is why there are none, else empty. Empty for a
        comparison without an arm that all sites share, or whose weights are on another machine.
    """
    reference = next((name for name in (*STRATEGIES, "centralised") if name in runs), None)
    if reference is None or not all(arm.has_weights for arm in list_arms(settings, out) if not arm.blended):
        return {}
    try:
        layer = spatial_layer_of(settings.model, settings.image_size)
    except ExplainError as error:
        return {"reference": reference, "reason": error.problem, "sites": {}}
    predictions = runs[reference][0][1]
    arms = {arm.name: arm for arm in reversed(list_arms(settings, out))}  # the first seed
    found = {}
    for name, site in sites.items():
        own = predictions.select(name)
        chosen = choose_examples(own.labels, own.probabilities, derive_seed(settings.seeds[0], "examples", name))
        rows = {kind: int(np.flatnonzero(site.paths == own.paths[place])[0]) for kind, place in chosen.items()}
        shown = [arms[arm] for arm in (f"local-{name}", "centralised", reference) if arm in arms]
        found[name] = _explain(site, rows, list(dict.fromkeys(shown)), layer)
    return {"reference": reference, "reason": "", "sites": found}


def choose_examples(labels: NDArray[np.int64], probabilities: NDArray[np.float64], seed: int) -> dict[str, int]:
    """Choose one correct and one wrong image at random, and the most confident of the other wrong ones.

    Args:
        labels: int64 [N].
        probabilities: float64 [N, 3].
        seed: Seed of the random choices.

    Returns:
        The position of each kind of example that exists.
    """
    random, right = np.random.default_rng(seed), probabilities.argmax(axis=1) == labels
    chosen = {}
    if right.any():
        chosen["correct"] = int(random.choice(np.flatnonzero(right)))
    wrong = np.flatnonzero(~right)
    if len(wrong):
        confident = int(wrong[probabilities[wrong].max(axis=1).argmax()])
        if others := wrong[wrong != confident].tolist():
            chosen["wrong"] = int(random.choice(others))
        chosen["confidently wrong"] = confident
    return chosen


def _explain(site: Site, rows: Mapping[str, int], arms: list[Arm], layer: SpatialLayer) -> list[dict[str, Any]]:
    images = np.array(site.pixels[list(rows.values())])
    examples: list[dict[str, Any]] = [
        {"kind": kind, "label": CLASSES[site.labels[row]], "image": _png(_enlarged(image)), "maps": []}
        for (kind, row), image in zip(rows.items(), images, strict=True)
    ]
    for arm in arms if rows else ():
        model = open_model(read_model(arm.folder.path), site.name)
        facts, probabilities = model.folder.facts, model.predict(images)
        classes = probabilities.argmax(axis=1)
        maps = compute_maps(model.module, layer, images, classes, facts.predicts)
        shown = facts.calibration.apply(probabilities) if facts.calibration else probabilities
        for place, example in enumerate(examples):
            example["maps"].append(
                {
                    "arm": arm.name,
                    "predicted": CLASSES[classes[place]],
                    "probability": float(shown[place, classes[place]]),
                    "image": _png(blend(_enlarged(images[place]), maps[place])),
                }
            )
    return examples


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
