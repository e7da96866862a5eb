"""The test for unlike images: its distance is that of scikit-learn's probabilistic PCA, and its limit a quantile."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.decomposition import PCA

from fedbus.model_folder.apply import open_model
from fedbus.model_folder.features import COMPONENTS, QUANTILE, KnownFeatures, known_features, watch_features
from fedbus.model_folder.read import read_model
from fedbus.sites.site import open_site


@pytest.fixture
def features() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(200, 60)) * np.linspace(3, 0.5, 60) + generator.normal(size=60)


def test_distances_are_those_of_probabilistic_pca(features: np.ndarray) -> None:
    known, oracle = KnownFeatures.fit(features), PCA(COMPONENTS, svd_solver="full").fit(features)
    new = np.random.default_rng(1).normal(size=(20, 60)) * 4
    centred = new - oracle.mean_
    expected = np.einsum("nd,de,ne->n", centred, oracle.get_precision(), centred) / 60
    np.testing.assert_allclose(known.distances(new), expected, rtol=1e-9)


def test_a_distribution_survives_its_file(features: np.ndarray) -> None:
    known = KnownFeatures.fit(features).with_limit(2.5)
    again = KnownFeatures.from_tensors("shared", known.to_tensors("shared"))
    np.testing.assert_allclose(again.distances(features), known.distances(features), rtol=1e-4)
    assert again.limit == 2.5


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_byobnet"])
def test_features_are_mean_and_deviation_of_channels(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    layer, maps = model.get_submodule(model.feature_info[1]["module"]), []
    layer.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.inference_mode(), watch_features(model) as watch:
        assert watch is not None
        model(torch.randn(4, 3, *model.default_cfg["input_size"][1:]))
        found = watch.take()
    channel = -1 if maps[0].ndim == 3 else 1
    places = np.moveaxis(maps[0].numpy(), channel, 1).reshape(4, maps[0].shape[channel], -1)
    np.testing.assert_allclose(found, np.concatenate([places.mean(2), places.std(2)], axis=1), rtol=1e-3, atol=1e-5)


def test_a_model_without_declared_feature_maps_has_no_test() -> None:
    with watch_features(torch.nn.Linear(2, 2)) as watch:
        assert watch is None


@pytest.mark.parametrize(("arm", "site"), [("centralised", None), ("fedavg", "north"), ("fedavg-tuned", "south")])
def test_the_limit_keeps_validation_images_and_false_alarms_are_counted(
    trained_run: Path, arm: str, site: str | None
) -> None:
    folder = read_model(trained_run / "arms" / arm)
    model = open_model(folder, site)
    known = known_features(model, site)
    assert known is not None
    distances = {}
    for split in ("validation", "test"):
        with watch_features(model.module) as watch:
            for name in [site] if site else folder.facts.sites:
                opened = open_site(trained_run, name)
                model.predict(opened.pixels[opened.splits[split]])
            distances[split] = watch.take()
    kept = known.distances(distances["validation"]) <= known.limit
    assert kept.mean() >= QUANTILE
    counted = folder.facts.features.false_alarms[f"own/{site}" if site else "shared"]
    assert sum(each.images for each in counted.values()) == len(distances["test"])
    assert sum(each.flagged for each in counted.values()) == (known.distances(distances["test"]) > known.limit).sum()


def test_a_model_folder_states_quantile_and_false_alarms(trained_run: Path) -> None:
    facts = json.loads((trained_run / "arms/fedavg/model.json").read_text())["features"]
    assert facts["quantile"] == QUANTILE
    assert set(facts["false_alarms"]) >= {"own/north", "own/south"}
