"""`fedbus explain RUN --masks`: how much of the models' maps is inside the lesions, and what random weights reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress as Bar
from torch import nn

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.site_mean import ALL, mean_of_defined
from fedbus.explain.energy import FloatArray, energy_shares, largest_shares, summarise
from fedbus.explain.focus_table import focus_table
from fedbus.explain.grad_cam import compute_maps
from fedbus.explain.lesions import LesionImages, read_lesion_images
from fedbus.explain.randomised import randomise
from fedbus.explain.run_models import RunModels, models_at, read_run_models
from fedbus.explain.spatial_layer import SpatialLayer, spatial_layer_of
from fedbus.model_folder.apply import open_model
from fedbus.runs.folder import read_settings
from fedbus.runs.lock import hold_folder
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.site import open_site
from fedbus.system.files import delete_fragments, write_json
from fedbus.system.terminal import advance_task, progress_bar
from fedbus.text import NOT_A_DEVICE

FOCUS_FILE = "focus.json"

DRAWS = 5
"""Networks with random weights. The maps of one may lean to dark or to bright regions, and lesions are dark."""

Lesions = Mapping[str, LesionImages]

Predicted = dict[tuple[str, str], list[NDArray[np.int64]]]
"""By arm and site, the predicted class of each image, once per seed."""

Shares = dict[tuple[str, str], FloatArray]
"""By arm and site, the share of each map's energy inside the lesion, float64 [N]; of several seeds, their mean."""


def measure_focus(run: Path, out: Path | None, console: Console) -> Path:
    """Measure the maps of every arm's predicted classes on the test images with lesion masks, and print the table.

    Args:
        run: Folder of a finished comparison.
        out: Folder of `focus.json`; None: `RUN/explained`.
        console: Prints progress and the table.

    Returns:
        The path of `focus.json`.

    Raises:
        FedbusError: If the run has no models or no masks, a mask does not fit its image, or the backbone has no layer
            with a map.
    """
    models, settings = read_run_models(run), resolve_sites(read_settings(run))
    layer, folder = spatial_layer_of(settings.model, settings.image_size), out or run / "explained"
    with progress_bar(console) as bar:
        lesions, left_out = _read_lesions(run, settings, bar)
        with hold_folder(folder):
            delete_fragments(folder)
            predicted, shares = _trained_shares(models, layer, lesions, bar)
            randomised = _randomised_shares(settings, layer, lesions, predicted, bar)
            results = {
                "not_a_device": NOT_A_DEVICE,
                "phantoms": next(iter(models.values()))[0].facts.phantoms,
                "explained": "Grad-CAM of the log-odds of the predicted class",
                "layer": layer.name,
                "map_size": list(layer.size),
                "image_size": settings.image_size,
                "randomised_networks": DRAWS,
                "left_out": left_out,
                "arms": _summaries(settings, layer, lesions, shares, randomised),
            }
            write_json(folder / FOCUS_FILE, results)
    console.print(focus_table(results))
    console.print(f"Figures: {folder / FOCUS_FILE}", markup=False, highlight=False, soft_wrap=True)
    return folder / FOCUS_FILE


def _read_lesions(run: Path, settings: Settings, bar: Bar) -> tuple[Lesions, dict[str, dict[str, int]]]:
    """Read the masks of all sites; and count, by site, the test images that are left out."""
    sites = {name: open_site(run, name) for name in settings.sites}
    advance = advance_task(bar, "read masks", sum(len(site.splits["test"]) for site in sites.values()))
    found = {name: read_lesion_images(site, settings.sites[name], advance) for name, site in sites.items()}
    lesions = {name: images for name, images in found.items() if len(images.images)}
    if not lesions:
        raise RunError(
            f"No test image of {run} has a lesion mask.",
            "BUSI, BUSI-UCLM and BUS-BRA are published with masks; in labels.csv, the column mask names them.",
        )
    return lesions, {
        name: {"without_lesion_mask": images.without, "lesion_too_small": images.too_small}
        for name, images in found.items()
    }


def _trained_shares(models: RunModels, layer: SpatialLayer, lesions: Lesions, bar: Bar) -> tuple[Predicted, Shares]:
    """Predict the lesion images with each arm, and measure the maps of the predicted classes."""
    predicted: Predicted = {}
    shares: Shares = {}
    steps = [(site, arm, folders) for site in lesions for arm, folders in models_at(models, site).items()]
    progress = advance_task(bar, "trained models", sum(len(lesions[site].images) * len(f) for site, _, f in steps))
    for site, arm, folders in steps:
        images, found = lesions[site], []
        for folder in folders:
            model = open_model(folder, site)
            classes = model.predict(images.images).argmax(axis=1)
            maps = compute_maps(model.module, layer, images.images, classes, folder.facts.predicts, progress)
            predicted.setdefault((arm, site), []).append(classes)
            found.append(energy_shares(maps, images.masks))
        shares[arm, site] = mean_of_defined(found)
    return predicted, shares


def _randomised_shares(
    settings: Settings, layer: SpatialLayer, lesions: Lesions, predicted: Predicted, bar: Bar
) -> Shares:
    """Measure the maps of networks with random weights, for the classes that each trained arm predicted."""
    advance = advance_task(bar, "randomised weights", DRAWS * len(lesions))
    every = np.concatenate([images.images for images in lesions.values()])
    found: dict[str, list[FloatArray]] = {site: [] for site in lesions}
    for draw in range(DRAWS):
        model = randomise(settings, every, draw)
        for site, images in lesions.items():
            wanted = [classes for (_, where), seeds in predicted.items() if where == site for classes in seeds]
            found[site].append(_shares_by_class(model, layer, images, np.stack(wanted)))
            advance(1)
    return {
        (arm, site): mean_of_defined(
            [by_class[np.arange(len(by_class)), classes] for by_class in found[site] for classes in seeds]
        )
        for (arm, site), seeds in predicted.items()
    }


def _shares_by_class(
    model: nn.Module, layer: SpatialLayer, images: LesionImages, wanted: NDArray[np.int64]
) -> FloatArray:
    """Measure one network's maps of each class [N, 3], where any of the wanted classes [K, N] is that class."""
    shares = np.full((len(images.images), len(CLASSES)), np.nan)
    for index in range(len(CLASSES)):
        rows = np.flatnonzero((wanted == index).any(axis=0))
        maps = compute_maps(model, layer, images.images[rows], np.full(len(rows), index))
        shares[rows, index] = energy_shares(maps, images.masks[rows])
    return shares


def _summaries(
    settings: Settings, layer: SpatialLayer, lesions: Lesions, shares: Shares, randomised: Shares
) -> dict[str, Any]:
    """Summarise by arm and place; `all` only for arms that have a model at every site with masks."""
    arms: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(arm for arm, _ in shares):
        sites = [site for site in lesions if (arm, site) in shares]
        for place, members in [*((site, [site]) for site in sites), (ALL, sites)]:
            columns = {
                "trained": np.concatenate([shares[arm, site] for site in members]),
                "randomised": np.concatenate([randomised[arm, site] for site in members]),
                "area": np.concatenate([lesions[site].masks.mean(axis=(1, 2)) for site in members]),
                "largest": np.concatenate([largest_shares(lesions[site].masks, layer.size) for site in members]),
            }
            groups = np.concatenate([lesions[site].groups for site in members])
            of_site = np.repeat(members, [len(lesions[site].images) for site in members])
            summary = summarise(columns, groups, of_site, settings.bootstrap, settings.draw_seed)
            arms.setdefault(arm, {})[place] = summary
    return arms
