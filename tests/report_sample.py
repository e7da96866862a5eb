"""Invented but complete results for the tests of the reports. No figure here was measured."""

import io
from typing import Any

import numpy as np
from PIL import Image

from fedbus.evaluation.claims import claims

CLASSES = ("benign", "malignant", "normal")

TRAIN = {"BUSI": (262, 126, 80), "BUS-UCLM": (104, 54, 251), "BUS-BRA": (761, 364, 0)}
TEST = {"BUSI": (87, 42, 27), "BUS-UCLM": (35, 18, 84), "BUS-BRA": (254, 121, 0)}

SKILL = {
    "local-BUSI": (0.88, 0.62, 0.74),
    "local-BUS-UCLM": (0.60, 0.80, 0.55),
    "local-BUS-BRA": (0.68, 0.52, 0.90),
    "centralised": (0.87, 0.81, 0.90),
    "fedavg": (0.83, 0.72, 0.89),
    "fedprox": (0.84, 0.75, 0.88),
}
"""Invented share of right answers of each arm at each site."""


def sample_results(phantoms: bool = True, seeds: int = 1) -> dict[str, Any]:
    """Build a results dict as a comparison of three sites would write it."""
    random = np.random.default_rng(7)
    arms: dict[str, dict[str, Any]] = {}
    for arm, skills in SKILL.items():
        at_sites = {
            site: _confusion(random, TEST[site], skill, loses_normals=arm == "fedavg" and site == "BUS-UCLM")
            for site, skill in zip(TEST, skills, strict=True)
        }
        total = np.sum(list(at_sites.values()), axis=0)
        arms[arm] = {site: _scores(found, seeds) for site, found in (at_sites | {"all": total}).items()}
        arms[arm]["mean"] = mean_of_sites([arms[arm][site] for site in TEST])
    return {
        "fedbus": "0.1.0",
        "created": "2026-03-02T14:05:11+00:00",
        "phantoms": phantoms,
        "classes": list(CLASSES),
        "sites": {site: _site(site) for site in TEST},
        "arms": arms,
        "differences": _differences(arms),
        "claims": _claims(_differences(arms)),
        "site_known": {"all": {"auc": {"value": 0.721, "low": 0.7, "high": 0.742}}},
        "work": {
            arm: {"steps": 544 if "local" in arm else 1632, "seconds": 301.4 + 40 * place, "best_round": 9}
            for place, arm in enumerate(arms)
        },
        "federation": {arm: {"rounds": _rounds(refused=arm == "fedavg")} for arm in ("fedavg", "fedprox")},
        "settings": {
            "arms": ["local", "centralised", "fedavg", "fedprox"], "seeds": list(range(seeds)), "rounds": 12,
            "batch-size": 32, "learning-rate": 0.0003, "sampler": "ros", "bootstrap": 2000,
            "augmentation": True, "strategy-options": {},
            "sites": {"BUSI": {"reader": "busi", "path": "/archives/BUSI"}},
        },
        "versions": {"python": "3.11.7", "torch": "2.11.0", "flwr": "1.41.0", "timm": "1.0.20"},
        "machine": {"cpu": "an invented processor", "cores": 8, "gpu": None, "memory": "32 GB"},
        "weights": "v1-derived ImageNet initialisation",
        "command": "fedbus compare --site busi=/archives/BUSI",
    }  # fmt: skip


def sample_histories(rounds: int = 12) -> dict[str, list[dict[str, Any]]]:
    """Build the rounds of every arm, round 0 being the start weights."""
    return {arm: [_round(arm, place, number) for number in range(rounds + 1)] for place, arm in enumerate(SKILL)}


def sample_images(each: int = 3) -> dict[str, dict[str, list[bytes]]]:
    """Draw speckled thumbnails as PNG bytes; the third site has no normals."""
    random = np.random.default_rng(11)
    return {
        site: {
            name: [_image(random, name) for _ in range(each)] for name, n in zip(CLASSES, TEST[site], strict=True) if n
        }
        for site in TEST
    }


def _confusion(random: np.random.Generator, counts: tuple[int, ...], skill: float, loses_normals: bool) -> np.ndarray:
    matrix = np.zeros((3, 3), dtype=int)
    for truth, count in enumerate(counts):
        right = 0.06 if loses_normals and truth == 2 else skill
        shares = [(1 - right) * 0.7, (1 - right) * 0.3]
        shares.insert(truth, right)
        matrix[truth] = random.multinomial(count, shares)
    return matrix


def _metric(value: float, images: float, seeds: int) -> dict[str, float]:
    half = 1.96 * float(np.sqrt(max(value * (1 - value), 0.002) / max(images, 1)))
    found = {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}
    return found if seeds == 1 else {**found, "spread": 0.011}


def _scores(confusion: np.ndarray, seeds: int) -> dict[str, Any]:
    images, right = int(confusion.sum()), np.diag(confusion)
    truth, called = confusion.sum(axis=1), confusion.sum(axis=0)
    present = truth > 0
    f1 = float((2 * right[present] / (truth + called)[present]).mean())
    false = called - right
    others = images - truth
    return {
        "accuracy": _metric(float(right.sum() / images), images, seeds),
        "macro_f1": _metric(f1, images / 2, seeds),
        "auc": _metric(0.5 + f1 / 2.05, images, seeds),
        "ece": _metric(0.18 - f1 / 8, images * 2, seeds),
        "sensitivity": {
            name: _metric(float(right[c] / truth[c]), truth[c], seeds) if truth[c] else None
            for c, name in enumerate(CLASSES)
        },
        "specificity": {
            name: _metric(float(1 - false[c] / others[c]), others[c], seeds) if truth[c] else None
            for c, name in enumerate(CLASSES)
        },
        "confusion": (confusion * seeds).tolist(),
        "images": images,
        "groups": int(images * 0.62) if images != 137 else 11,
    }


def _differences(arms: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = [("centralised", site) for site in ("mean", "all", *TEST)]
    pairs += [(f"local-{home}", site) for home in TEST for site in ("all", home)]
    rows = []
    for arm in ("fedavg", "fedprox"):
        for reference, site in pairs:
            for metric in ("accuracy", "macro_f1", "auc"):
                first, second = arms[arm][site][metric], arms[reference][site][metric]
                value = first["value"] - second["value"]
                half = (first["high"] - first["low"]) * 0.4
                names = {"arm": arm, "reference": reference, "site": site, "metric": metric}
                rows.append({**names, "value": value, "low": value - half, "high": value + half})
    return rows


def mean_of_sites(found: list[dict[str, Any]]) -> dict[str, Any]:
    """As `fedbus.evaluation.site_mean.mean_of_sites` summarises: fewer metrics, and no confusion matrix."""
    keys = list(found[0]["auc"])
    means = {
        metric: {key: float(np.mean([site[metric][key] for site in found])) for key in keys}
        for metric in ("accuracy", "macro_f1", "auc")
    }
    return {**means, **{key: sum(site[key] for site in found) for key in ("images", "groups")}}


def _claims(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        references = found.setdefault(row["arm"], {}).setdefault(row["reference"], {})
        references.setdefault(row["site"], {})[row["metric"]] = {key: row[key] for key in ("value", "low", "high")}
    return {arm: claims(references) for arm, references in found.items()}


def _site(name: str) -> dict[str, Any]:
    train, test = TRAIN[name], TEST[name]
    validation = tuple(round(n * 0.18) for n in train)
    has = [n for n in train if n]
    images = sum(train) + sum(test) + sum(validation)
    dropped = [
        {"path": "benign (433).png", "reason": "same file as malignant (145).png, under two labels"},
        {"path": "malignant (145).png", "reason": "same file as benign (433).png, under two labels"},
    ]
    return {
        "reader": name.lower().replace("-", "_"),
        "citation": f"An invented citation for {name}, Journal of Examples 1, 1-9 (2024). https://example.org/{name}",
        "terms": "no licence file in any copy seen" if name == "BUSI" else "CC BY 4.0, with citation",
        "digest": "3f" * 32,
        "split_digest": "a7" * 32,
        "notes": ["normal: 133 images found, 132 published"] if name == "BUSI" else [],
        "images": images,
        "patients": None if name == "BUSI" else int(images * 0.57),
        "groups": int(images * 0.56),
        "dropped": dropped if name == "BUSI" else [],
        "splits": {
            "train": dict(zip(CLASSES, train, strict=True)),
            "validation": dict(zip(CLASSES, validation, strict=True)),
            "test": dict(zip(CLASSES, test, strict=True)),
        },
        "balanced": {label: max(has) if n else 0 for label, n in zip(CLASSES, train, strict=True)},
    }


def _rounds(refused: bool) -> list[dict[str, Any]]:
    rounds = []
    for number in range(1, 13):
        out = {"BUS-UCLM": "the update contains NaN"} if refused and number == 4 else {}
        there = [name for name in TEST if name not in out and not (refused and number == 7 and name == "BUSI")]
        rounds.append({"round": number, "participants": there, "refused": out})
    return rounds


def _round(arm: str, place: int, number: int) -> dict[str, Any]:
    done = 1 - float(np.exp(-number / (2.5 + place / 3)))
    skill = float(np.mean(SKILL[arm])) - 0.02 * float(np.sin(number * (place + 2)))
    entry: dict[str, Any] = {
        "round": number,
        "train_loss": None if number == 0 else 1.1 - 0.85 * done,
        "learning_rate": 3e-4 * (1 - number / 13),
        "seconds": 24.0 + place,
        "validation": _validation(0.30 + (skill - 0.30) * done),
    }
    if not arm.startswith("local"):
        entry["sites"] = {
            site: _validation(0.28 + (own - 0.28) * done, has_normals=TEST[site][2] > 0)
            for site, own in zip(TEST, SKILL[arm], strict=True)
        }
    return entry


def _validation(score: float, has_normals: bool = True) -> dict[str, Any]:
    recall = {
        "benign": min(1.0, score + 0.06),
        "malignant": score,
        "normal": score - 0.2 if has_normals else None,
    }
    return {"loss": 1.4 - score, "accuracy": min(1.0, score + 0.03), "macro_f1": score, "recall": recall}


def _image(random: np.random.Generator, label: str) -> bytes:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    grey = 70 + 50 * np.exp(-((y + 0.5) ** 2) * 3)
    if label != "normal":
        radius = (x / 0.5) ** 2 + (y / 0.33) ** 2
        edge = 0.35 * np.sin(np.arctan2(y, x) * 9) if label == "malignant" else 0.0
        grey = np.where(radius < 1 + edge, 22, grey)
    grey = np.clip(grey * random.gamma(6, 1 / 6, grey.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format="PNG")
    return buffer.getvalue()
