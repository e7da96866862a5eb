"""Describe the features of an arm's training images, and measure how often real test images are found unlike them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedbus.model_folder.apply import LEAST_TO_ADAPT, AppliedModel, open_model
from fedbus.model_folder.facts import FalseAlarms, FeatureFacts
from fedbus.model_folder.features import QUANTILE, FloatArray, KnownFeatures, features_key, watch_features
from fedbus.model_folder.read import ModelFolder
from fedbus.model_folder.write import save_part
from fedbus.models.state import State
from fedbus.sites.site import Site

FEATURES_FILE = "features.safetensors"

MOST_IMAGES = 512
"""Distinct images of each split of each site that are looked at, at most, evenly spaced."""

LEAST_TRAINING, LEAST_VALIDATION = 8, 2
"""Images that a distribution, and its limit, are fitted to, at least. Of fewer than a hundred validation images, the
limit keeps all."""

ROOM = 1.001
"""Times the limit, so that the image at the quantile stays within it where another machine rounds differently."""

SPLITS = ("train", "validation", "test")

Features = dict[str, FloatArray]
"""Features [N, D] by split, of one site."""


def fit_feature_test(folder: ModelFolder, sites: Mapping[str, Site], device: str) -> FeatureFacts | None:
    """Fit and measure the test for unlike images, and write its file.

    Args:
        folder: The arm's folder with all its other facts; its `model.json` need not exist yet.
        sites: The sites that it was trained at, by name.
        device: As the setting.

    Returns:
        What `model.json` says about the test; None if the model does not declare its feature maps, or the sites have
        too few images.

    Raises:
        RunError: If a file is damaged, or the disk is full.
    """
    images = {name: {split: _choose(site, split) for split in SPLITS} for name, site in sites.items()}
    found: dict[str, dict[str, Features]] = {}
    for name, choice in images.items():
        for key, model in _ways_to_apply(folder, name, choice["train"], device):
            features = _collect(model, choice)
            if features is None:
                return None
            found.setdefault(key, {})[name] = features
    tensors, alarms = State(), {}
    for key, by_site in found.items():
        known = _fit(list(by_site.values()))
        if known is not None:
            tensors |= known.to_tensors(key)
            alarms[key] = {name: _count(known, each["test"]) for name, each in by_site.items() if "test" in each}
    if not tensors:
        return None
    return FeatureFacts(part=save_part(folder.path, FEATURES_FILE, tensors), quantile=QUANTILE, false_alarms=alarms)


def _choose(site: Site, split: str) -> NDArray[np.uint8]:
    """Read evenly spaced distinct images of a split."""
    rows = np.unique(site.splits[split])
    places = np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).round().astype(int)
    return np.array(site.pixels[rows[places]])


def _ways_to_apply(
    folder: ModelFolder, name: str, images: NDArray[np.uint8], device: str
) -> Sequence[tuple[str, AppliedModel]]:
    """Open the model in each way in which it can be applied to images of a site."""
    own = open_model(folder, name, device=device)
    ways = [(features_key(own, name), own)]
    if folder.facts.weights is not None and own.arrays == "own":
        if folder.facts.complete:
            shared = open_model(folder, device=device)
            ways.append((shared.arrays, shared))
        elif len(images) >= LEAST_TO_ADAPT:
            adapted = open_model(folder, None, images, device)
            ways.append((adapted.arrays, adapted))
    return ways


def _collect(model: AppliedModel, images: Mapping[str, NDArray[np.uint8]]) -> Features | None:
    with watch_features(model.module) as watch:
        if watch is None:
            return None
        features = {}
        for split, chosen in images.items():
            if len(chosen):
                model.predict(chosen)
                features[split] = watch.take()
        return features


def _fit(sites: Sequence[Features]) -> KnownFeatures | None:
    """Fit one distribution to the training images of all sites; its limit keeps `QUANTILE` of the validation images."""
    train = [each["train"] for each in sites if "train" in each]
    held = [each["validation"] for each in sites if "validation" in each]
    if sum(map(len, train)) < LEAST_TRAINING or sum(map(len, held)) < LEAST_VALIDATION:
        return None
    known = KnownFeatures.fit(np.concatenate(train))
    limit = np.quantile(known.distances(np.concatenate(held)), QUANTILE, method="higher")
    return known.with_limit(float(limit) * ROOM)


def _count(known: KnownFeatures, features: FloatArray) -> FalseAlarms:
    flagged = known.distances(features) > known.limit
    return FalseAlarms(images=len(features), flagged=int(flagged.sum()))
