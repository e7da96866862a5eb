"""Pack a study for a machine that has only PyTorch, timm, NumPy, scikit-learn and safetensors.

    python -m simulations.portable.pack SETTINGS.toml OUT --site READER=FOLDER ... --folds 2,3,4

Writes OUT/study.safetensors and, unless the weights are random, OUT/weights.safetensors: these two are copied to the
other machine. OUT/settings.json stays, since it names the folders of the datasets; `unpack` reads it.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.errors import FedbusError, RunError, SettingsError
from fedbus.models.build import build_model, classifier_names
from fedbus.models.start import start_state
from fedbus.runs.folder import SETTINGS_FILE
from fedbus.settings.arms import is_tuned
from fedbus.settings.load import load_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.sites.split import SPLITS
from fedbus.system.files import write_json
from fedbus.system.scratch import scratch_folder
from fedbus.training.rows import POOLED, federation_rows, pooled_rows, site_rows
from simulations.portable.pixels import LOSSLESS, encode
from simulations.portable.study_file import STUDY_FILE, WEIGHTS_FILE, PackedStudy
from simulations.portable.weights_file import save_weights
from simulations.studies.folds import choose_folds

MOST_BYTES, MOST_BYTES_IN_ALL = 30_000_000, 60_000_000
"""Largest study file, alone and with the start weights, so that they can be copied where only small files can."""

QUALITY = 82
"""WebP quality of the images unless another is chosen."""

SAMPLERS = ("ros", "rus", "none")
"""Samplers that only choose rows: synthetic images and class weights are not packed."""

CPU = torch.device("cpu")


def pack(settings: Settings, out: Path, folds: Sequence[int], quality: int) -> PackedStudy:
    """Prepare the sites once per fold, and write the files that `run` and `unpack` need.

    Args:
        settings: Settings of the comparison; the engine is always `in-process`.
        out: Folder of the files.
        folds: The folds to test, at least one.
        quality: WebP quality from 1 to 100, or `LOSSLESS`.

    Raises:
        FedbusError: If the settings, datasets or weights can't be used, or the file would be too large.
    """
    _check(settings, folds)
    settings = resolve_sites(settings)
    tensors: dict[str, NDArray[Any]] = {}
    with scratch_folder(Path(tempfile.gettempdir())) as scratch:
        for fold in folds:
            of_fold = settings.model_copy(update={"fold": fold})
            sites = prepare_sites(of_fold, scratch / str(fold))
            if fold == folds[0]:
                tensors |= _pack_images(sites, quality)
            tensors |= _pack_rows(sites, of_fold)
    study = PackedStudy(_public_values(settings), folds, quality, tensors)
    study.save(out / STUDY_FILE)
    weights = pack_weights(settings, out / WEIGHTS_FILE)
    _check_size(out, weights != "none")
    write_json(out / SETTINGS_FILE, settings.as_dict() | {"weights": weights, "engine": "in-process"})
    return study


def _check_size(out: Path, weights: bool) -> None:
    """Delete the files if they are too large.

    Raises:
        RunError: If they are.
    """
    files = [out / STUDY_FILE, *([out / WEIGHTS_FILE] if weights else [])]
    sizes = [path.stat().st_size for path in files]
    if sizes[0] > MOST_BYTES or sum(sizes) > MOST_BYTES_IN_ALL:
        for path in files:
            path.unlink()
        raise RunError(
            f"The packed study takes {sizes[0] / 1e6:.1f} MB, with its start weights {sum(sizes) / 1e6:.1f}; at most "
            f"{MOST_BYTES / 1e6:.0f} and {MOST_BYTES_IN_ALL / 1e6:.0f} are allowed.",
            "Use a lower --quality, a smaller image-size, or a smaller model.",
        )


def _check(settings: Settings, folds: Sequence[int]) -> None:
    """Check that a study can be packed.

    Raises:
        SettingsError: If its split, sampler, arms or folds can't.
    """
    if not folds or max(folds) >= settings.folds:
        raise SettingsError(f"--folds: choose among 0 to {settings.folds - 1}.", "Write, for example, --folds 0,1.")
    if settings.split != "groups":
        raise SettingsError(f"split = {settings.split} can't be packed.", "Use split = groups.")
    if settings.sampler not in SAMPLERS:
        raise SettingsError(f"sampler = {settings.sampler} can't be packed.", f"Use one of {', '.join(SAMPLERS)}.")
    if tuned := [arm for arm in settings.arms if is_tuned(arm)]:
        raise SettingsError(f"arms: {', '.join(tuned)} can't be packed.", "Leave out the fine-tuned arms.")
    if settings.dp_epsilon:
        raise SettingsError(
            f"dp-epsilon = {settings.dp_epsilon:g} can't be packed: it needs Opacus.", "Run fedbus compare."
        )
    Settings.model_validate(settings.as_dict() | {"engine": "in-process"})  # only the averaging strategies


def _pack_images(sites: Mapping[str, Site], quality: int) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, site in sites.items():
        # Numbered at random, so that a number says nothing about the order of patients.
        names, groups = np.unique(site.groups, return_inverse=True)
        numbers = np.random.default_rng().permutation(len(names))[groups]
        used = site.labels >= 0
        found |= {f"{name}/{key}": value for key, value in encode(site.pixels, used, quality).items()}
        found[f"{name}/labels"] = site.labels.astype(np.int8)
        found[f"{name}/groups"] = np.where(used, numbers, -1).astype(np.int32)
    return found


def _pack_rows(sites: Mapping[str, Site], settings: Settings) -> dict[str, NDArray[Any]]:
    """Pack the splits of a fold, and the balanced rows of each seed."""
    found, fold = dict[str, NDArray[Any]](), f"fold-{settings.fold}"
    for name, site in sites.items():
        found |= {f"{name}/{fold}/{split}": site.splits[split].astype(np.int32) for split in SPLITS}
    for seed in settings.seeds:
        federation = federation_rows(settings, sites, seed)
        for name, site in sites.items():
            alone, federated = (site_rows(site, settings, seed, CPU, sums) for sums in (None, federation))
            found[f"{name}/{fold}/seed-{seed}/alone"] = alone.index.numpy().astype(np.int32)
            found[f"{name}/{fold}/seed-{seed}/federated"] = federated.index.numpy().astype(np.int32)
        pooled = pooled_rows(list(sites.values()), settings, seed, CPU)
        found[f"{POOLED}/{fold}/seed-{seed}"] = pooled.index.numpy().astype(np.int32)
    return found


def _public_values(settings: Settings) -> dict[str, Any]:
    """Return all settings by field name, without paths; random weights remain `none`."""
    weights = "none" if settings.weights == "none" else WEIGHTS_FILE
    changed = {"sites": list(settings.sites), "weights": weights, "engine": "in-process"}
    hidden = {"cache", "track"}
    return settings.model_dump(mode="json", exclude=hidden) | changed


def pack_weights(settings: Settings, path: Path) -> str:
    """Write the start weights without the classifier, see `simulations.portable.weights_file`.

    Returns:
        The setting `weights` that names the given file; `none` if the weights are random.
    """
    if settings.weights == "none":
        path.unlink(missing_ok=True)  # of an earlier study
        return "none"
    head = tuple(f"{name}." for name in classifier_names(build_model(settings.model)))
    state = start_state(settings.model, settings.weights, 0)
    save_weights({name: value for name, value in state.items() if not name.startswith(head)}, path)
    return settings.weights


def _loss_of_pixels(study: PackedStudy) -> str:
    return "lossless" if study.quality == LOSSLESS else f"WebP of quality {study.quality}"


def main(words: Sequence[str] | None = None) -> int:
    """Pack a study, and print the size of its files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", action="append", default=[], metavar="READER=FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--folds", required=True, metavar="2,3,4")
    parser.add_argument("--quality", type=int, default=QUALITY, help=f"of WebP, 1 to 100; {LOSSLESS}: lossless")
    given = parser.parse_args(words)
    try:
        settings = load_settings(given.settings, given.overrides, given.site)
        study = pack(settings, given.out, choose_folds(given.folds, False, settings.folds), given.quality)
    except FedbusError as error:
        print(f"Error: {error.problem}\nWhat to do: {error.remedy}", file=sys.stderr)
        return 1
    print(f"Images: {_loss_of_pixels(study)}.")
    for path in (given.out / STUDY_FILE, given.out / WEIGHTS_FILE):
        if path.is_file():
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
