"""Gather the content of `evaluation.json`: metrics with intervals, paired differences, and facts about both sides."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedbus.classes import CLASSES
from fedbus.datasets.registry import find_reader
from fedbus.evaluation.measured import measure
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import ALL
from fedbus.external.calibration import measure_calibrations
from fedbus.external.dataset import OutsideDataset
from fedbus.external.models import GivenModel
from fedbus.external.overlap import Overlap
from fedbus.runs.environment import describe_environment
from fedbus.settings.load import build_settings
from fedbus.sites.notes import UNKNOWN_PATIENTS
from fedbus.text import NOT_A_DEVICE


def assemble_evaluation(
    dataset: OutsideDataset,
    models: Sequence[GivenModel],
    predictions: Mapping[str, Sequence[Predictions]],
    overlap: Overlap,
    site: str | None,
) -> dict[str, Any]:
    """Build the content of `evaluation.json`.

    Its keys are those of a comparison's results where the meaning is the same, so that both have the same figures.

    Args:
        dataset: The dataset.
        models: The models, in the order in which they were named.
        predictions: By model, the predictions of each seed.
        overlap: What models have seen of the dataset.
        site: The site as which the models were applied, or None.
    """
    defaults = build_settings({}, "the defaults")
    measured = {name: measure(seeds, defaults.bootstrap, defaults.draw_seed) for name, seeds in predictions.items()}
    facts = [folder.facts for model in models for folder in model.seeds]
    environment = describe_environment()
    return {
        "fedbus": environment["versions"]["fedbus"],
        "created": environment["created"],
        "command": environment["command"],
        "versions": environment["versions"],
        "machine": environment["machine"],
        "note": NOT_A_DEVICE,
        "phantoms": dataset.reader == "phantoms" or any(each.phantoms for each in facts),
        "classes": list(CLASSES),
        "settings": {"bootstrap": defaults.bootstrap, "near-bits": max(each.near_bits for each in facts)},
        "as": site,
        "sites": {dataset.name: _dataset_facts(dataset, next(iter(predictions.values()))[0], overlap)},
        "models": {model.name: _model_facts(model) for model in models},
        "arms": {name: {ALL: found.summary()} for name, found in measured.items()},
        "calibration": measure_calibrations(models, predictions, defaults),
        "differences": [
            {"arm": models[0].name, "reference": other.name, "site": ALL, "metric": metric, **value}
            for other in models[1:]
            for metric, value in measured[models[0].name].minus(measured[other.name]).items()
            if value is not None
        ],
    }


def _dataset_facts(dataset: OutsideDataset, tested: Predictions, overlap: Overlap) -> dict[str, Any]:
    loaded, reader = dataset.loaded, find_reader(dataset.reader)
    rows = {row.path: row for row in loaded.manifest.rows}
    return {
        "reader": dataset.reader,
        "digest": loaded.manifest.digest,
        "images": len(rows),
        "patients": len({rows[path].patient for path in tested.paths.tolist()} - {None}) or None,
        "groups": len(set(tested.groups.tolist())),
        "splits": {"test": _class_counts(tested)},
        "notes": [note for note in loaded.notes if note != UNKNOWN_PATIENTS],  # this one is about splits
        "left_out": {
            "conflicting labels": len(loaded.grouped.dropped),
            "seen in training": len(overlap.left_out),
            "near-duplicates": {name: len(found) for name, found in overlap.near.items()},
            "further images of patients": {name: len(found) for name, found in overlap.patients.items()},
        },
        "not checked": list(overlap.unknown),
        "citation": reader.citation,
        "terms": reader.terms,
    }


def _class_counts(tested: Predictions) -> dict[str, int]:
    counts = Counter(tested.labels.tolist())
    return {label: counts[index] for index, label in enumerate(CLASSES)}


def _model_facts(model: GivenModel) -> dict[str, Any]:
    facts = model.seeds[0].facts
    return {
        "arm": facts.arm,
        "run": facts.run,
        "fedbus": facts.fedbus,
        "seeds": [folder.facts.seed for folder in model.seeds],
        "arrays": model.arrays,
        "trained_at": {name: found.images for name, found in facts.sites.items()},
        "predicts": list(facts.predicts),
        "architecture": facts.architecture,
        "image_size": facts.image_size,
        "burned_in": facts.burned_in,
        "batch_norm": facts.batch_norm,
        "digests": [folder.digest for folder in model.seeds],
    }
