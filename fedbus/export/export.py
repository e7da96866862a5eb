"""`fedbus export`: write a model as a bundle that runs without FedBUS, and check it against PyTorch."""

import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fedbus.errors import FedbusError, RunError
from fedbus.export.network import FILES, INPUT, OUTPUT, Format, Network, load_network, run_network, save_network
from fedbus.export.parity import Parity, compare, parity_images
from fedbus.model_folder.apply import AppliedModel, open_model, which_arrays
from fedbus.model_folder.facts import FeatureFacts, ModelFacts, Part
from fedbus.model_folder.features import SHARED, KnownFeatures, known_features
from fedbus.model_folder.read import ModelFolder, read_model
from fedbus.model_folder.write import save_part, write_model
from fedbus.models.inputs import MEAN, STD
from fedbus.models.state import get_state
from fedbus.system.files import check_new_folder, write_json, write_text
from fedbus.system.terminal import print_line
from fedbus.text import NOT_A_DEVICE

WEIGHTS_FILE, SEEN_FILE, FEATURES_FILE = "weights.safetensors", "seen-images.safetensors", "features.safetensors"
PREPROCESSING_FILE, PARITY_FILE, EXAMPLE_FILE = "preprocessing.json", "parity.json", "predict.py"


def export_model(model: Path, form: Format, site: str | None, out: Path, images: Sequence[Path] = ()) -> Parity:
    """Export a model; if it fails, nothing is left.

    Args:
        model: A model folder.
        form: The file's format.
        site: A site of the training whose arrays are used; None: the shared ones.
        out: The bundle's folder, new or empty.
        images: Files and folders with images for the comparison with PyTorch; by default test images of the run, or
            phantoms where the run's images are elsewhere.

    Returns:
        The comparison with PyTorch.

    Raises:
        RunError: If the model is incomplete without a site, `out` is not empty, the architecture can't be exported, the
            probabilities differ, or the disk is full.
    """
    folder = read_model(model)
    if which_arrays(folder, site) == "adapted":
        raise RunError(
            f"{folder.path} is complete only with the BatchNorm of a site; a bundle can't adapt to new images.",
            f"Choose the site whose scanner is most like yours: --as SITE ({', '.join(folder.facts.sites)}).",
        )
    check_new_folder(out)
    print_line(f"Writing {folder.label} as {form} and comparing it with PyTorch; this takes a few seconds.")
    compared = parity_images(folder, images)
    applied = open_model(folder, site, device="cpu")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as scratch:
            bundle = Path(scratch) / "bundle"
            bundle.mkdir()
            parity = _write_network(bundle, applied, form, compared)
            _write_model_folder(bundle, applied, site)
            bundle.replace(out)
    except OSError as error:
        raise RunError(
            f"{out} could not be written ({error.strerror or error}); nothing is left.",
            "Free some disk space, or choose another folder.",
        ) from error
    _report(folder, form, out, parity)
    return parity


def _write_network(bundle: Path, applied: AppliedModel, form: Format, compared: tuple[Any, str]) -> Parity:
    """Write the network, how to use it, and the comparison with PyTorch."""
    facts = applied.folder.facts
    temperature = facts.calibration.temperature if facts.calibration else 1.0
    network = Network(applied.module.float(), temperature, facts.predicts).eval()
    path = bundle / FILES[form]
    try:
        save_network(network, facts.image_size, form, path)
        exported = load_network(form, path)
    except (FedbusError, OSError):
        raise
    except Exception as error:  # the exporters raise errors of many types
        raise RunError(
            f"{facts.architecture} can't be exported as {form} ({type(error).__name__}: {str(error)[:200]}).",
            "Choose the other --format, or another architecture.",
        ) from error
    parity = compare(exported, run_network(network), *compared)
    write_json(bundle / PARITY_FILE, parity.to_json())
    write_json(bundle / PREPROCESSING_FILE, preprocessing(facts, form))
    if form == "onnx":
        write_text(bundle / EXAMPLE_FILE, resources.files("fedbus.export").joinpath("example.py").read_text("utf-8"))
    return parity


def preprocessing(facts: ModelFacts, form: Format) -> dict[str, Any]:
    """Return what running the network needs to know, in the order in which an image goes through it."""
    calibration = facts.calibration
    return {
        "notice": NOT_A_DEVICE,
        "model": FILES[form],
        "grey": "ITU-R 601 luma, 8 bits; transparency dropped, EXIF orientation applied",
        "burned_in_annotations": facts.burned_in,
        "size": facts.image_size,
        "filter": "bilinear, antialiased (Pillow's BILINEAR), aspect ratio ignored",
        "scale": 255,
        "mean": list(MEAN),
        "std": list(STD),
        "input": {"name": INPUT, "type": "float32", "shape": ["batch", 3, facts.image_size, facts.image_size]},
        "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", len(facts.classes)]},
        "classes": list(facts.classes),
        "predicts": list(facts.predicts),
        "temperature": calibration.temperature if calibration else 1.0,
        "temperature_is_applied": True,
        "threshold": calibration.threshold if calibration else None,
        "threshold_class": "malignant",
    }


def _write_model_folder(bundle: Path, applied: AppliedModel, site: str | None) -> None:
    """Make the bundle a model folder, whose arrays are all shared."""
    folder, facts = applied.folder, applied.folder.facts
    kept = {site: facts.sites[site]} if site and applied.arrays == "own" else facts.sites
    known = known_features(applied, site)
    write_model(
        bundle,
        facts.model_copy(
            update={
                "weights": save_part(bundle, WEIGHTS_FILE, get_state(applied.module)),
                "sites": {name: each.model_copy(update={"own": None}) for name, each in kept.items()},
                "batch_norm": "average",
                "precision": "float32",
                "seen": _copy(folder, facts.seen, bundle, SEEN_FILE),
                "features": _save_features(bundle, facts.features, known),
            }
        ),
    )


def _copy(folder: ModelFolder, part: Part | None, bundle: Path, name: str) -> Part | None:
    return save_part(bundle, name, folder.load(part)) if part else None


def _save_features(bundle: Path, stored: FeatureFacts | None, known: KnownFeatures | None) -> FeatureFacts | None:
    if stored is None or known is None:
        return None
    return stored.model_copy(update={"part": save_part(bundle, FEATURES_FILE, known.to_tensors(SHARED))})


def _report(folder: ModelFolder, form: Format, out: Path, parity: Parity) -> None:
    lines = [
        f"{out / FILES[form]} gives the probabilities of PyTorch within {parity.largest_difference:.1e}, on "
        f"{parity.images} {parity.source}."
    ]
    if folder.facts.burned_in == "masked":
        lines.append(
            "The model expects images whose burned-in annotations are painted over, which the bundle can't do: "
            "see fedbus/images/burned_in.py."
        )
    for line in (*lines, NOT_A_DEVICE):
        print_line(line)
