"""A finished run of a hub with two arms, from invented predictions at three sites, and its report."""

from dataclasses import asdict

import numpy as np
import torch

from fedbus.classes import CLASSES
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_calibration import measure_site_calibration
from fedbus.evaluation.site_scores import score_site
from fedbus.evaluation.totals import numbers_of_test, read_totals
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import check_same_start, record_run
from fedbus.settings.load import build_settings
from fedbus.system.files import write_json
from fedbus.transport.messages import Registration
from server.hub.report import write_hub_report

TEST = {"st-mary": (130, 60, 70), "north": (60, 30, 90), "coast-clinic": (150, 80, 0)}
SKILLS = {"fedavg": 0.35, "fedprox": 0.5}


def predictions(site, skill, seed=0):
    """Invented predictions on a site's test rows, two rows per patient."""
    fixed, random = np.random.default_rng(len(site)), np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), TEST[site])
    probabilities = random.dirichlet([1, 1, 1], size=len(labels))
    probabilities[np.arange(len(labels)), labels] += np.clip(random.normal(skill, 0.3, len(labels)), 0, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    groups = [f"{site}/patient-{number // 2}" for number in range(len(labels))]
    names = [f"ward/{fixed.integers(10**9)}.png" for _ in labels]
    return Predictions(labels, probabilities, groups, [site] * len(labels), names)


def run_settings(root, seeds=1, secure=False):
    return build_settings(
        {
            "privacy": "secure-aggregation" if secure else "none",
            "arms": list(SKILLS), "seeds": list(range(seeds)), "rounds": 6, "bootstrap": 400,
            "cache": str(root / "cache"), "weights": str(root / "weights" / "weights.pth"),
        },
        "the tests",
    )  # fmt: skip


def registration(site, phantoms):
    """The registration of a site."""
    train = tuple(3 * n for n in TEST[site])
    return Registration(
        site=site,
        labels=CLASSES,
        image_size=224,
        splits={"train": train, "validation": TEST[site], "test": TEST[site]},
        balanced=tuple(max(train) if n else 0 for n in train),
        groups=sum(TEST[site]) * 5 // 2,
        patients=0 if site == "north" else sum(TEST[site]) * 2,
        dropped=3 if site == "st-mary" else 0,
        phantoms=phantoms,
    )


def history(site_names, best=6, secure=False):
    lines = []
    for number in range(1, best + 1):
        score = 0.4 + 0.07 * number
        recall = dict.fromkeys(CLASSES, score)
        one = {"loss": 1.3 - score, "accuracy": score, "macro_f1": score - 0.02, "recall": recall}
        lines.append(
            {
                "round": number, "train_loss": 1.2 - 0.1 * number, "steps": 90, "seconds": 31.0,
                "participants": [name for name in site_names if (name, number) != ("north", 3)],
                "refused": {"north": "failed: /ward/7/scan.png can't be read"} if number == 3 else {},
                "validation": one,
                "sites": {} if secure else {name: one | {"macro_f1": score - 0.01} for name in site_names},
            }
        )  # fmt: skip
    return lines


def report(root, seeds=1, *, phantoms=False, without=(), secure=False):
    """A finished run of two arms, and its report.

    Args:
        root: Where to write it.
        seeds: Number of seeds.
        phantoms: Whether the images are synthetic.
        without: Pairs of arm and site, or triples with the seed, that did not test the model.
        secure: Whether the hub has only totals.
    """
    settings, out = run_settings(root, seeds, secure), root / "run"
    record_run(out, settings)
    check_same_start({seed: {"weight": torch.full((2,), float(seed))} for seed in settings.seeds}, out)
    write_json(out / "registrations.json", {site: asdict(registration(site, phantoms)) for site in TEST})
    for arm, skill in SKILLS.items():
        for seed in settings.seeds:
            lines = history(TEST, secure=secure)
            rounds = [{key: line[key] for key in ("round", "participants", "refused")} for line in lines]
            scored = [site for site in TEST if not {(arm, site), (arm, site, seed)} & set(without)]
            scores = {
                site: score_site(predictions(site, skill, seed), settings.bootstrap, settings.draw_seed)
                for site in scored
            }
            calibration = calibrate([predictions(site, skill, 10 + seed) for site in TEST], settings.threshold)
            calibrated = {
                site: measure_site_calibration(
                    predictions(site, skill, seed), calibration, settings.bootstrap, settings.draw_seed
                )
                for site in scored
            }
            folder = arm_folder(out, settings, arm, seed)
            folder.write_history(lines)
            folder.finish(
                {"steps": 540, "best_round": 5, "seconds": 186.0, "rounds": rounds}
                | {"calibration": calibration.model_dump(), **recorded(scores, calibrated, secure)}
            )
    return write_hub_report(out, settings, phantoms=phantoms)


def recorded(scores, calibrated, secure):
    """What the hub records about the test of a model."""
    if secure:
        numbers = sum(numbers_of_test(scores[site], calibrated[site]) for site in scores)
        return {"site_scores": {}, "site_calibrations": {}, "totals": read_totals(numbers, list(scores))}
    return {
        "site_scores": {site: found.to_metrics() for site, found in scores.items()},
        "site_calibrations": {site: found.to_metrics() for site, found in calibrated.items()},
    }
