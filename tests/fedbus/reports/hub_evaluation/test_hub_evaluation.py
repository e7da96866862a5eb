"""The page and the table of a given model at every site of a hub."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.evaluation.measured import CLASS_METRICS, METRICS
from fedbus.reports.hub_evaluation.page import cautions, render_page
from fedbus.reports.hub_evaluation.tables import evaluation_table
from fedbus.text import NOT_A_DEVICE
from tests.html_reader import HtmlReader


def metrics(seed: int, *, missing: str | None = None) -> dict[str, Any]:
    generator = np.random.default_rng(seed)

    def figure() -> dict[str, float]:
        low, value, high = sorted(generator.uniform(0.3, 0.99, 3).tolist())
        return {"value": value, "low": low, "high": high}

    by_class = {name: {label: None if label == missing else figure() for label in CLASSES} for name in CLASS_METRICS}
    confusion = [[0 if label == missing else int(n) for n in generator.integers(1, 40, 3)] for label in CLASSES]
    return {**{name: figure() for name in METRICS}, **by_class, "confusion": confusion, "images": 60, "groups": 31}


def results(**changes: Any) -> dict[str, Any]:
    everywhere = metrics(9) | {"auc": None, "ece": None, "images": 120, "groups": 62}
    model = {
        "folder": "fedavg", "digest": "0" * 64, "arm": "fedavg", "seed": 0, "run": "1" * 16, "fedbus": "0.2.0",
        "architecture": "resnetv2_50", "image_size": 64, "sites": ["north"], "own": True, "seen": False,
    }  # fmt: skip
    sites = {
        "north": {"metrics": metrics(1), "batch_norm": "own", "left_out": 0},
        "st-mary": {"metrics": metrics(2, missing="normal"), "batch_norm": "adapted", "left_out": 7},
    }
    return {
        "fedbus": "0.2.0", "phantoms": False, "model": model, "sites": sites, "failures": {}, "all": everywhere,
        "settings": {"bootstrap": 200}, "versions": {"torch": "2"}, "machine": {"cpu": "x"}, "created": "2026-11-26",
    } | changes  # fmt: skip


def printed(content: dict[str, Any], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(evaluation_table(content))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 160])
def test_the_table_has_every_place_with_whole_intervals(width):
    content = results()
    text = printed(content, width)
    for place, found in (("north", content["sites"]["north"]["metrics"]), ("all sites", content["all"])):
        low, high = (f"{found['accuracy'][end]:.3f}".lstrip("0") for end in ("low", "high"))
        assert f"{low}–{high}" in text, place
    assert " ".join(NOT_A_DEVICE.split()) in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= max(width, 75)


def test_a_single_site_has_no_line_for_all():
    content = results(sites={"north": results()["sites"]["north"]})
    assert "all sites" not in printed(content, 160)
    assert "stays at the site" not in render_page(content)


def test_the_page_says_what_the_figures_are_of():
    page = " ".join(render_page(results()).split())
    assert "Each site scored its test images of the run that made the model" in page
    assert "adapted to the site&#39;s training images, without labels" in page
    assert "7 at st-mary" in page
    assert NOT_A_DEVICE in page
    assert page.count("n/a") == 2, "AUC and calibration error of all sites"
    assert page.count("no such images") == 1
    HtmlReader(page)  # tags are nested properly


def test_sites_without_an_answer_and_unknown_training_images_are_cautions():
    content = results(failures={"south": "not connected"})
    assert any("south: not connected" in line for line in cautions(content))
    elsewhere = content | {"model": content["model"] | {"own": False}}
    assert any("no fingerprints" in line for line in cautions(elsewhere))
    assert not any("no fingerprints" in line for line in cautions(content)), "its test rows are known"


def test_text_of_sites_is_escaped_and_phantoms_are_marked():
    page = render_page(results(failures={"south": "<script>alert(1)</script>"}, phantoms=True))
    assert "<script>" not in page
    assert "PHANTOMS: synthetic images" in page
    assert "PHANTOMS: synthetic images" in printed(results(phantoms=True), 160)
