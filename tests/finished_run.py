"""A finished run on disk, made from invented results; nothing is trained."""

import json
from pathlib import Path
from typing import Any

from fedbus.reports.comparison.results import shown_settings
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import run_id
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.system.files import write_json, write_text
from tests.report_sample import SKILL, TEST, sample_histories, sample_results

PRIVATE = "ward-7"
"""In the names of all folders, image files and patients of the run: no page that is handed on may contain it."""


def run_settings(**changes: object) -> Settings:
    """The settings of the run; the datasets' folders are private and do not exist."""
    keys: dict[str, Any] = {
        "sites": {site: {"reader": "busi", "path": f"/{PRIVATE}/{site}"} for site in TEST},
        "arms": ["local", "centralised", "fedavg", "fedprox"],
        "weights": f"/{PRIVATE}/start.safetensors",
        "cache": f"/{PRIVATE}/cache",
        "track": f"mlflow:http://{PRIVATE}.example",
        "batch-norm": "local",
    }
    return build_settings(keys | {key.replace("_", "-"): value for key, value in changes.items()}, "the tests")


def write_run(out: Path, *, phantoms: bool = False, elsewhere: bool = False, **changes: object) -> dict[str, Any]:
    """Write the run folder of a finished comparison of three sites, and return the content of its results.

    Args:
        out: The run folder.
        phantoms: Whether the images are synthetic.
        elsewhere: Whether its models were evaluated at a site that took no part, and explained.
        **changes: Settings that differ.
    """
    settings = run_settings(**changes)
    results = sample_results(phantoms, len(settings.seeds)) | {
        "settings": shown_settings(settings),
        "fedbus": "0.2.0",
        "command": f"fedbus compare --site busi=/{PRIVATE}/BUSI",
    }
    for site in results["sites"].values():
        site["notes"] = [f"{PRIVATE}/scan (1).png is very dark"]
        site["dropped"] = [{"path": f"{PRIVATE}/a.png", "reason": f"same image under another label: {PRIVATE}/b.png"}]
    write_json(out / "results.json", results)
    write_json(out / "settings.json", settings.as_dict())
    write_json(out / "environment.json", {"created": results["created"], "versions": results["versions"]})
    write_json(out / "sites.json", results["sites"])
    write_json(out / "start.json", {str(seed): "6a" * 32 for seed in settings.seeds})
    for name in ("report.html", "table.md", "headline.png"):
        write_text(out / name, "invented")
    for site in TEST:
        write_text(out / "splits" / f"{site}.csv", f"row,path,patient\n0,{PRIVATE}/1.png,{PRIVATE}\n")
    for arm in SKILL:
        for seed in settings.seeds:
            folder = arm_folder(out, settings, arm, seed)
            folder.finish({"steps": 10})
            write_text(folder.path / "history.jsonl", json.dumps(sample_histories()[arm][0]) + "\n")
            for name in ("predictions.csv", "best.safetensors", "final.safetensors"):
                write_text(folder.path / name, "invented")
    if elsewhere:
        write_json(out / "evaluations" / "elsewhere" / "evaluation.json", _evaluation(results, run_id(out)))
        write_json(out / "explained" / "focus.json", _focus())
    return results


def _focus() -> dict[str, Any]:
    """What `fedbus explain --masks` found."""
    shares = {"trained": (0.4, 0.3, 0.5), "randomised": (0.2, 0.1, 0.3), "area": (0.15, 0.14, 0.16)}
    found = {name: dict(zip(("value", "low", "high"), share, strict=True)) for name, share in shares.items()}
    return {"explained": "the predicted class", "arms": {"fedavg": {"all": {"images": 70, **found}}}}


def _evaluation(results: dict[str, Any], run: str) -> dict[str, Any]:
    """What `fedbus evaluate` found at a fourth site, of two models of the run and one of another run."""
    models = {"centralised": (run, "centralised"), "fedavg": (run, "fedavg"), f"fedavg {PRIVATE}": ("other", "fedavg")}
    return {
        "fedbus": "0.2.0",
        "sites": {"elsewhere": {"splits": {"test": {"benign": 40, "malignant": 20, "normal": 0}}, "groups": 50}},
        "models": {name: {"run": of, "arm": arm, "arrays": "adapted"} for name, (of, arm) in models.items()},
        "arms": {name: {"all": results["arms"][arm]["BUSI"]} for name, (_, arm) in models.items()},
    }
