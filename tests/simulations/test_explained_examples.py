"""The examples of a report: chosen by the stated rule, explained as the arms predict, at most three per site."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.evaluation.predictions import Predictions
from fedbus.runs.folder import read_settings
from fedbus.sites.site import open_site
from simulations.arm import Arm, list_arms
from simulations.explained_examples import PIXELS, choose_examples, explained_examples


def test_examples_are_chosen_by_the_stated_rule() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    predicted, certain = [0, 1, 1, 0, 2, 0], [0.9, 0.5, 0.6, 0.8, 0.7, 0.6]
    probabilities = np.array(
        [[c if i == p else (1 - c) / 2 for i in range(3)] for p, c in zip(predicted, certain, strict=True)]
    )
    drawn = [choose_examples(labels, probabilities, seed) for seed in range(40)]
    assert {each["correct"] for each in drawn} == {0, 2, 4}
    assert {each["wrong"] for each in drawn} == {1, 5}
    assert {each["confidently wrong"] for each in drawn} == {3}
    assert drawn[0] == choose_examples(labels, probabilities, 0)
    assert set(choose_examples(labels[:2], probabilities[:2], 0)) == {"correct", "confidently wrong"}
    assert choose_examples(labels[1:2], probabilities[1:2], 0) == {"confidently wrong": 0}


@pytest.fixture(scope="module")
def runs(trained_run: Path) -> dict[str, list[tuple[Arm, Predictions]]]:
    arms = list_arms(read_settings(trained_run), trained_run)
    return {arm.name: [(arm, Predictions.from_csv(arm.folder.path / "predictions.csv"))] for arm in arms}


def test_examples_show_local_centralised_and_federated_side_by_side(trained_run: Path, runs: dict) -> None:
    sites = {name: open_site(trained_run, name) for name in ("north", "south")}
    found = explained_examples(read_settings(trained_run), trained_run, sites, runs)
    assert (found["reference"], found["reason"]) == ("fedavg", "")
    for site, rows in found["sites"].items():
        assert 1 <= len(rows) <= 3
        for row in rows:
            assert [each["arm"] for each in row["maps"]] == [f"local-{site}", "centralised", "fedavg"]
            federated = row["maps"][-1]
            assert (federated["predicted"] == row["label"]) == (row["kind"] == "correct")
            assert federated["predicted"] in CLASSES
            assert 1 / 3 <= federated["probability"] <= 1
            for each in (row, *row["maps"]):
                with Image.open(io.BytesIO(each["image"])) as image:
                    assert image.size == (PIXELS, PIXELS)
    assert found == explained_examples(read_settings(trained_run), trained_run, sites, runs)
    assert explained_examples(read_settings(trained_run), trained_run, sites, {"local-north": []}) == {}


def test_the_report_shows_them(trained_run: Path) -> None:
    page = (trained_run / "report.html").read_text()
    section = page[page.index('<section aria-labelledby="examples">') :]
    section = section[: section.index("</section>")]
    assert 'href="#examples"' in page
    assert 2 * 4 <= len(re.findall(r"<img ", section)) <= 2 * 3 * 4
    assert "FedAvg" in section


def test_a_backbone_without_maps_gives_the_reason(trained_run: Path, runs: dict) -> None:
    settings = read_settings(trained_run).model_copy(update={"model": "levit_128s", "image_size": 224})
    found = explained_examples(settings, trained_run, {}, runs)
    assert "levit_128s" in found["reason"]
    assert found["sites"] == {}
