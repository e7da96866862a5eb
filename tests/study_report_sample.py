"""A made-up example of `study.json` for the tests of a study's reports. No figure here was measured."""

from typing import Any

import numpy as np

from tests.report_sample import CLASSES, TEST, TRAIN, mean_of_sites

CELLS = {"ros": 0.0, "none": -0.07, "class-weights": 0.004, "rus": -0.02, "smote": 0.015, "adasyn": 0.03}
"""Invented gain of each sampler."""

SKILL = {
    "local-BUSI": 0.86,
    "local-BUS-UCLM": 0.79,
    "local-BUS-BRA": 0.88,
    "centralised": 0.85,
    "fedavg": 0.78,
    "fedprox": 0.80,
}

REASON = (
    "BUS-UCLM has 4 training rows of normal, and SMOTE with k = 5 needs at least 6. Ask for fewer neighbours, "
    "or for another sampler. The other cells are finished; --resume runs only this one."
)


def study_content(
    phantoms: bool = True,
    arms: tuple[str, ...] = ("centralised", "fedavg"),
    failed: dict[str, str] | None = None,
    seeds: int = 1,
) -> dict[str, Any]:
    """Build the content of a study of samplers on three sites.

    Args:
        phantoms: whether the images are said to be synthetic.
        arms: of every cell.
        failed: cells that failed, with the reason.
        seeds: above 1, metrics have a spread.
    """
    arms_setting = list(dict.fromkeys("local" if arm.startswith("local-") else arm for arm in arms))
    content: dict[str, Any] = {
        "schema": 1,
        "fedbus": "0.1.0",
        "study": "sampling",
        "title": "Sampling techniques",
        "question": "What does balancing the classes change, and which way of doing it?",
        "phantoms": phantoms,
        "default": "ros",
        "references": "",
        "created": "2026-03-02T14:05:11+00:00",
        "command": "fedbus study sampling --site busi=/archives/BUSI --out runs/sampling",
        "versions": {"python": "3.11.7", "torch": "2.11.0", "flwr": "1.41.0", "timm": "1.0.20"},
        "machine": {"cpu": "an invented processor", "cores": 8, "gpu": None, "memory": "32 GB"},
        "settings": {
            "arms": arms_setting,
            "seeds": list(range(seeds)),
            "rounds": 4,
            "image-size": 64,
            "bootstrap": 2000,
        },
        "weights": "resnetv2_50 of timm, ImageNet",
        "classes": list(CLASSES),
        "sites": {site: _site(site) for site in TEST},
        "arms": list(arms),
        "site_known": {"all": {"auc": {"value": 0.721, "low": 0.7, "high": 0.742}}},
        "cells": {name: cell({"sampler": name}, gain, arms, seeds) for name, gain in CELLS.items()},
    }
    del content["cells"]["ros"]["differences"]
    for name, reason in ({"smote-enn": REASON} if failed is None else failed).items():
        content["cells"][name] = cell_without_figures({"sampler": name}, "failed", reason)
    return content


def cell(settings: dict[str, Any], gain: float, arms: tuple[str, ...], seeds: int = 1) -> dict[str, Any]:
    """Build a finished cell whose figures are `gain` above those of the default."""
    order = list(SKILL)
    return {
        "settings": settings,
        "state": "finished",
        "reason": None,
        "folder": f"cells/{'-'.join(str(value) for value in settings.values())}",
        "seconds": 512.0 + 1000 * abs(gain),
        "arms": {arm: places(SKILL[arm] + gain, seeds) for arm in arms},
        "validation": {
            arm: {"best_round": 3, "accuracy": SKILL[arm] + gain / 2 + 0.02, "macro_f1": SKILL[arm] + gain / 2}
            for arm in arms
        },
        "work": {arm: {"steps": 120, "seconds": 210.0 + 11 * order.index(arm), "best_round": 3} for arm in arms},
        "differences": {
            arm: {
                place: {
                    metric: {"value": gain * share, "low": gain * share - 0.018, "high": gain * share + 0.018}
                    for metric, share in (("accuracy", 0.9), ("macro_f1", 1.0), ("auc", 0.6))
                }
                for place in ("mean", "all", *TEST)
            }
            for arm in arms
        },
    }


def cell_without_figures(settings: dict[str, Any], state: str, reason: str | None) -> dict[str, Any]:
    """Build a cell that failed or was not run."""
    facts = {"folder": "cells/hole", "seconds": None}
    return {"settings": settings, "state": state, "reason": reason, **facts}


def places(skill: float, seeds: int = 1) -> dict[str, Any]:
    """Build an arm's metrics by place, with every key that `fedbus.evaluation.evaluate.evaluate` gives."""
    at_sites = {site: _scores(skill - 0.02 * number, TEST[site], seeds) for number, site in enumerate(TEST)}
    everywhere = _scores(skill, tuple(np.sum(list(TEST.values()), axis=0).tolist()), seeds)
    return {"all": everywhere, "mean": mean_of_sites(list(at_sites.values())), **at_sites}


def leakage_content(phantoms: bool = True) -> dict[str, Any]:
    """Build the content of a study of three protocols, two of which leak."""
    arms = ("centralised",)
    content = study_content(phantoms, arms, failed={}) | {"study": "leakage", "title": "Leakage", "default": "C-groups"}
    content["question"] = "How much of a figure does a split by image give away for nothing?"
    content["cells"] = {"C-groups": cell({"split": "groups"}, 0.0, arms)}
    for name, split, gain in (("B-images", "images", 0.05), ("A-balanced-images", "balanced-images", 0.1)):
        found = cell({"split": split}, gain, arms)
        del found["differences"]
        found["leakage"] = _leakage(split, gain)
        content["cells"][name] = found
    del content["cells"]["C-groups"]["differences"]
    return content


def federation_content() -> dict[str, Any]:
    """Build the content of a study whose cells run arms of their own: one with references, one a federated arm each."""
    content = study_content(arms=("fedavg",), failed={}) | {"default": "mask", "references": "references"}
    content["settings"]["arms"] = ["fedavg"]
    alone = ("local-BUSI", "local-BUS-UCLM", "local-BUS-BRA", "centralised")
    content["cells"] = {
        "references": cell({"arms": ["local", "centralised"]}, 0.0, alone),
        "mask": cell({"missing-classes": "mask"}, 0.0, ("fedavg",)),
        "plain": cell({"missing-classes": "plain"}, -0.2, ("fedavg",)),
        "fedprox-1": cell({"arms": ["fedprox"], "proximal-mu": 1.0}, 0.01, ("fedprox",)),
        "fedadam": cell_without_figures({"arms": ["fedadam"]}, "failed", "the loss was not finite in round 2"),
        "sgd": cell_without_figures({"optimiser": "sgd"}, "not run", None),
    }
    del content["cells"]["references"]["differences"], content["cells"]["mask"]["differences"]
    content["arms"] = [*alone, "fedavg", "fedprox"]
    return content


def _scores(skill: float, counts: tuple[int, ...], seeds: int) -> dict[str, Any]:
    images = sum(counts)

    def metric(value: float, size: float) -> dict[str, float]:
        half = 1.96 * float(np.sqrt(max(value * (1 - value), 0.002) / size))
        found = {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}
        return found if seeds == 1 else {**found, "spread": 0.011}

    recall = {
        name: metric(min(1.0, skill * share), count) if count else None
        for name, count, share in zip(CLASSES, counts, (1.05, 0.97, 0.4), strict=True)
    }
    return {
        "accuracy": metric(skill + 0.03, images),
        "macro_f1": metric(skill, images / 2),
        "auc": metric(0.4 + skill * 0.6, images),
        "ece": metric(0.18 - skill / 8, images * 2),
        "sensitivity": recall,
        "specificity": recall,
        "confusion": np.diag(counts).tolist(),
        "images": images,
        "groups": int(images * 0.62) if images != 137 else 11,
    }


def _leakage(split: str, gain: float) -> dict[str, Any]:
    difference = {
        metric: {"value": gain, "low": gain - 0.03, "high": gain + 0.03} for metric in ("accuracy", "macro_f1", "auc")
    }
    return {
        "split": split,
        "leaked": {
            site: {"test_rows": sum(TEST[site]), "copies": 40 if gain > 0.06 else 3, "same_group": 71} for site in TEST
        },
        "arms": {
            "centralised": {
                "claim": places(SKILL["centralised"] + gain),
                "truth": places(SKILL["centralised"]),
                "difference": {place: dict(difference) for place in ("all", *TEST)},
            }
        },
    }


def _site(name: str) -> dict[str, Any]:
    splits = {"train": TRAIN[name], "validation": tuple(round(n * 0.18) for n in TRAIN[name]), "test": TEST[name]}
    return {
        "reader": name.lower().replace("-", "_"),
        "images": sum(sum(counts) for counts in splits.values()),
        "splits": {split: dict(zip(CLASSES, counts, strict=True)) for split, counts in splits.items()},
    }
