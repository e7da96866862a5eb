"""Measure how fast `fedbus predict` is beside a bare timm loop and ONNX Runtime, decoding included.

    python -m simulations.benchmarks.inference SETTINGS.json OUT.json

All three read the same PNG files and use float32 and the same weights. *Bare* is what a tutorial does: Pillow opens and
resizes one image after another, and timm's model classifies batches of 64. *ONNX Runtime* does the same with the
exported file. The loops take turns in one process; ratios are medians over the turns.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fedbus.classes import CLASSES
from fedbus.evaluation.predict import BATCH
from fedbus.export.network import FILES, Network, Run, load_network, run_network, save_network
from fedbus.model_folder.apply import AppliedModel
from fedbus.model_folder.facts import ModelFacts
from fedbus.model_folder.read import ModelFolder
from fedbus.models.build import build_model, place_model
from fedbus.models.inputs import MEAN, STD
from fedbus.predict.decode import Decoder
from fedbus.predict.predict import PredictionRun
from fedbus.predict.sources import find_sources
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from simulations.benchmarks.throughput import median_ratio

IMAGES, TURNS = 256, 5
"""Files of each turn, and turns of each loop."""

FILE_SIZE = (500, 470)
"""Width and height of the files: the median of BUSI's images."""


def measure(settings: Settings, folder: Path, images: int = IMAGES, turns: int = TURNS) -> dict[str, Any]:
    """Let ours, the bare loop and ONNX Runtime classify the same files in turns.

    Args:
        settings: Model and image size are used.
        folder: An empty folder for the files.
        images: Number of files.
        turns: Turns of each loop.

    Returns:
        Images per second of each loop in each turn, and the medians of their ratios.
    """
    settings = settings.model_copy(update={"precision": "float32", "device": "cpu"})
    paths, size = _write_files(folder / "images", images), settings.image_size
    torch.manual_seed(0)
    classifier = build_model(settings.model).eval()
    model = _load(settings, classifier, folder)
    network = Network(classifier, 1.0, CLASSES).eval()
    save_network(network, size, "onnx", folder / FILES["onnx"])
    exported = load_network("onnx", folder / FILES["onnx"])
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: _ours(model, paths, folder),
        "bare": lambda: _bare(run_network(network), paths, size),
        "onnxruntime": lambda: _bare(exported, paths, size),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):  # the first one fills caches
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                speeds[name].append(images / (time.perf_counter() - started))
    return {
        "inference_over_bare": median_ratio(speeds["ours"], speeds["bare"]),
        "onnxruntime_over_bare": median_ratio(speeds["onnxruntime"], speeds["bare"]),
        "images_per_second": speeds,
        "images": images,
        "image_size": size,
        "model": settings.model,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _write_files(folder: Path, count: int) -> list[Path]:
    """Write speckled grey images, whose content does not matter."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{number:04d}.png" for number in range(count)]
    for path in paths:
        coarse = Image.fromarray(generator.integers(0, 256, (94, 100), dtype=np.uint8))
        coarse.resize(FILE_SIZE).save(path)
    return paths


def _load(settings: Settings, classifier: nn.Module, folder: Path) -> AppliedModel:
    """Place a copy of the classifier as the command does; the network of the other loops stays as timm made it."""
    facts = ModelFacts.from_settings(
        settings, arm="bare", seed=0, run="", phantoms=True, predicts=None, weights=None, sites={}
    )
    module = place_model(settings.model, torch.device("cpu"))
    module.load_state_dict(classifier.state_dict())
    return AppliedModel(ModelFolder(folder, facts), module.eval(), settings, "shared")


def _ours(model: AppliedModel, paths: Sequence[Path], folder: Path) -> None:
    """Find, decode and predict the files, and write their rows, as the command does once its model is loaded."""
    run = PredictionRun(model, None, [], lambda _: None)
    decoder = Decoder(model.folder.facts.image_size, masked=False)
    run.write(folder / "predictions.csv", decoder.decode_all(find_sources([paths[0].parent]).sources))
    assert run.images == len(paths), "every file is readable"


def _bare(run: Run, paths: Sequence[Path], size: int) -> NDArray[np.float64]:
    found = []
    for first in range(0, len(paths), BATCH):
        grey = [
            Image.open(path).convert("L").resize((size, size), Image.Resampling.BILINEAR)
            for path in paths[first : first + BATCH]
        ]
        pixels = np.stack([np.asarray(image) for image in grey])[:, None].astype(np.float32) / 255
        given = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        found.append(run(np.ascontiguousarray(given, dtype=np.float32)))
    return np.concatenate(found)


def main(settings_file: Path, out: Path) -> None:
    """Measure, and write the figures to OUT."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(out, measure(build_settings(read_json(settings_file), str(settings_file)), Path(folder)))


if __name__ == "__main__":
    typer.run(main)
