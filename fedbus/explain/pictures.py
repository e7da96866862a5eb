"""`fedbus explain MODEL PICTURE...`: where a model looked in single images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.explain.grad_cam import Maps, compute_maps, resize_maps
from fedbus.explain.overlay import draw_overlay, scale_map
from fedbus.explain.spatial_layer import SpatialLayer, spatial_layer_of
from fedbus.images.decode import decode_image, split_frame
from fedbus.images.model_input import prepare_image
from fedbus.model_folder.apply import AppliedModel, open_model
from fedbus.model_folder.read import read_model
from fedbus.reports import wording
from fedbus.runs.lock import is_unused
from fedbus.system.files import make_private_folder, write_json, write_whole
from fedbus.system.terminal import advance_task, plain_table, print_line, progress_bar
from fedbus.text import NOT_A_DEVICE

EXPLANATIONS_FILE = "explanations.json"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is shown of one image.

    Attributes:
        path: The image, as the user named it.
        image: The image at full size.
        map: float32 [h, w], Grad-CAM of the predicted class, at least 0.
        predicted: The predicted class.
        probabilities: float64 [3], calibrated if the model is.
    """

    path: Path
    image: Image.Image
    map: Maps
    predicted: str
    probabilities: NDArray[np.float64]


def default_out() -> Path:
    """Name a new folder after the current time."""
    return Path(f"explained-{datetime.now():%Y%m%d-%H%M%S}")


def explain_pictures(
    model: Path, pictures: Sequence[Path], site: str | None, out: Path | None, console: Console
) -> Path:
    """Explain the predicted class of each image: a picture, its map and one JSON file for all.

    Args:
        model: A model folder.
        pictures: Image files; `scan.dcm#12` is the twelfth frame of a DICOM file.
        site: A site of the training whose arrays are used; None: the model for everywhere else.
        out: Folder of the results, not inside a folder with pictures; None: `default_out()`.
        console: Prints progress and the table.

    Returns:
        The path of `explanations.json`.

    Raises:
        FedbusError: If the model, an image or `out` can't be used, or the backbone has no layer with a map; nothing is
            written then.
    """
    folder, out = read_model(model), out or default_out()
    facts = folder.facts
    _check_out(out, pictures)
    layer = spatial_layer_of(facts.architecture, facts.image_size)
    with progress_bar(console) as bar:
        images = [_decode(path) for path in pictures]
        seen = np.stack(
            [prepare_image(image, facts.image_size, masked=facts.burned_in == "masked") for image in images]
        )
        applied = open_model(folder, site, seen)
        probabilities = applied.predict(seen)
        classes = probabilities.argmax(axis=1)
        advance = advance_task(bar, "explain", len(images))
        maps = compute_maps(applied.module, layer, seen, classes, facts.predicts, advance)
        shown = facts.calibration.apply(probabilities) if facts.calibration else probabilities
        found = [
            Explanation(*each)
            for each in zip(pictures, images, maps, [CLASSES[index] for index in classes], shown, strict=True)
        ]
        make_private_folder(out)
        rows = [_write(out, number, each, applied, site) for number, each in enumerate(found, start=1)]
        write_json(out / EXPLANATIONS_FILE, _describe(applied, site, layer, rows))
    _print(rows, console)
    if applied.arrays == "adapted":
        print_line(
            f"{folder.label} has BatchNorm only for its own sites ({', '.join(facts.sites)}): here it is the mean of "
            "theirs, with statistics estimated from these images. With few images, use --as SITE."
        )
    for line in (f"Pictures and maps: {out / EXPLANATIONS_FILE}", NOT_A_DEVICE):
        print_line(line)
    return out / EXPLANATIONS_FILE


def _check_out(out: Path, pictures: Sequence[Path]) -> None:
    """Refuse folders as pictures, and results that would be written beside pictures or over another result."""
    target = out.resolve()
    for path in pictures:
        if path.is_dir():
            raise RunError(f"{path} is a folder.", f"Name the image files, for example {path}/*.png.")
        beside = split_frame(path)[0].resolve().parent
        if beside == target or beside in target.parents:
            raise RunError(
                f"The results would be written to {out}, inside {beside}, the folder of {path.name}.",
                "Name a folder elsewhere: --out FOLDER.",
            )
    if not is_unused(out):
        raise RunError(f"{out} is not empty.", "Name a new folder: --out FOLDER.")


def _decode(path: Path) -> Image.Image:
    image = decode_image(path)
    image.load()
    return image


def _write(out: Path, number: int, found: Explanation, applied: AppliedModel, site: str | None) -> dict[str, Any]:
    """Write the picture and the map of one image, and describe them."""
    file, frame = split_frame(found.path)
    stem = file.stem if frame is None else f"{file.stem}-{frame}"
    name = f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem[-60:])}"
    facts, size = applied.folder.facts, applied.folder.facts.image_size
    scaled = scale_map(resize_maps(found.map[None], (size, size))[0])
    picture = draw_overlay(found.image, found.map, _lines(found, applied, site))
    write_whole(out / f"{name}.png", lambda path: picture.save(path, "PNG"))
    write_whole(out / f"{name}.npy", lambda path: np.save(path, scaled))
    return {
        "file": str(found.path),
        "class": found.predicted,
        "probabilities": dict(zip(facts.classes, found.probabilities.tolist(), strict=True)),
        "picture": f"{name}.png",
        "map": f"{name}.npy",
        "largest": float(found.map.max()),
    }


def _lines(found: Explanation, applied: AppliedModel, site: str | None) -> list[str]:
    """The text of a picture; not the name of the file, which may name a patient."""
    facts = applied.folder.facts
    probability = f"{found.probabilities.max():.3f}"
    certain = "calibrated" if facts.calibration else "not calibrated"
    model = wording.arm_label(facts.arm) + (f" as {site}" if site else "")
    looked = f"where {model} found signs of it" if found.map.max() > 0 else f"{model} found signs of it nowhere"
    return [
        f"Predicted: {found.predicted}, probability {probability} ({certain})",
        f"Right: {looked} (Grad-CAM, {found.map.shape[0]} x {found.map.shape[1]} positions)",
        *([wording.PHANTOMS] if facts.phantoms else []),
        NOT_A_DEVICE,
    ]


def _describe(
    applied: AppliedModel, site: str | None, layer: SpatialLayer, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    facts = applied.folder.facts
    return {
        "not_a_device": NOT_A_DEVICE,
        "model": {"arm": facts.arm, "seed": facts.seed, "run": facts.run, "architecture": facts.architecture},
        "phantoms": facts.phantoms,
        "as": site,
        "arrays": applied.arrays,
        "calibrated": facts.calibration is not None,
        "explained": "Grad-CAM of the log-odds of the predicted class",
        "layer": layer.name,
        "positions": list(layer.size),
        "maps": f"float32 [{facts.image_size}, {facts.image_size}], 0 to 1: divided by its largest value; 0 where "
        "nothing speaks for the class",
        "images": rows,
    }


def _print(rows: list[dict[str, Any]], console: Console) -> None:
    table = plain_table("file", "class", "probability", "picture")
    for row in rows:
        table.add_row(row["file"], row["class"], f"{max(row['probabilities'].values()):.3f}", row["picture"])
    console.print(table)
