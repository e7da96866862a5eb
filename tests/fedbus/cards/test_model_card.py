"""The model card: its figures are those of results.json, its settings repeat the run, its Markdown is well formed."""

import hashlib
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from fedbus.cards.model_card import model_card
from fedbus.cards.run import FinishedRun, read_run
from fedbus.errors import RunError
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.subgroups import FIGURES, measure_subgroups
from fedbus.model_folder.facts import ModelFacts, SiteFacts
from fedbus.model_folder.write import part_of, write_model
from fedbus.reports import wording
from fedbus.runs.folder import run_id
from fedbus.settings.load import build_settings, load_settings
from fedbus.text import NOT_A_DEVICE
from tests.finished_run import PRIVATE, run_settings, write_run

METRICS = {"AUC": "auc", "macro F1": "macro_f1", "accuracy": "accuracy", "calibration error": "ece"}
FIGURE = re.compile(r"([−+]?)(\d*\.\d{3})")
SECTION = "Calibration and threshold"
PARSER = MarkdownIt("commonmark").enable("table")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> FinishedRun:
    out = tmp_path_factory.mktemp("run")
    write_run(out)
    return read_run(out)


def tables(page: str) -> dict[str, list[list[list[str]]]]:
    """The tables of a page as rows of cells, by the heading above them, as another parser reads them."""
    found: dict[str, list[list[list[str]]]] = {}
    heading, row = "", []
    tokens = PARSER.parse(page)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline" and before and before.type == "heading_open":
            heading = text_of(token)
        elif token.type == "table_open":
            found.setdefault(heading, []).append([])
        elif token.type == "tr_open":
            row = []
        elif token.type == "inline" and before and before.type in ("th_open", "td_open"):
            row.append(text_of(token))
        elif token.type == "tr_close":
            found[heading][-1].append(row)
    return found


def text_of(token) -> str:
    return "".join(child.content for child in token.children or [])


def numbers(cell: str) -> list[float]:
    return [float(digits) * (-1 if sign == "−" else 1) for sign, digits in FIGURE.findall(cell)]


def same(cell: str, metric: dict[str, float] | None) -> bool:
    if metric is None:
        return cell == "n/a"
    return numbers(cell) == pytest.approx([metric[key] for key in ("value", "low", "high")], abs=5.01e-4)


def test_every_figure_equals_the_results(run):
    found, arms = tables(model_card(run)), run.results["arms"]
    labels = {"Centralised": "centralised", "FedAvg": "fedavg", "FedProx": "fedprox"}
    labels |= {f"{site} alone": f"local-{site}" for site in run.sites}
    for place in (*run.sites, "mean", "all"):
        name = {"all": "all test images", "mean": "mean of sites"}.get(place, place)
        ((headings, *rows),) = next(value for key, value in found.items() if key.startswith(f"Tested on {name}"))
        assert [labels[row[0]] for row in rows] == [
            *(f"local-{site}" for site in run.sites),
            *list(labels.values())[:3],
        ]
        for label, *cells in rows:
            for heading, cell in zip(headings[1:], cells, strict=True):
                assert same(cell, arms[labels[label]][place][METRICS[heading]]), (place, label, heading)


def test_every_class_figure_equals_the_results(run):
    found = tables(model_card(run))
    for title, arm in (("Centralised (pooled data)", "centralised"), ("FedAvg", "fedavg"), ("FedProx", "fedprox")):
        ((_, *rows),) = found[title]
        assert len(rows) == 4 * 3
        for name, sensitivity, specificity, images in rows:
            place, label = name.split(", ")
            at = run.results["arms"][arm]["all" if place == "all test images" else place]
            assert same(sensitivity, at["sensitivity"][label])
            assert same(specificity, at["specificity"][label])
            assert int(images.replace(",", "")) == sum(at["confusion"][run.results["classes"].index(label)])


def test_every_difference_equals_the_results(run):
    ((_, *rows),) = tables(model_card(run))["Differences between arms"]
    expected = [row for row in run.results["differences"] if row["metric"] == "auc"]
    assert len(rows) == len(expected)
    assert all(same(cells[1], row) for cells, row in zip(rows, expected, strict=True))


def test_counts_and_digests_equal_the_results(run):
    found = tables(model_card(run))
    totals, counts = found["Data"]
    for (name, _, images, _, groups, _), (site, facts) in zip(totals[1:], run.sites.items(), strict=True):
        assert name == site
        assert [int(cell.replace(",", "")) for cell in (images, groups)] == [facts["images"], facts["groups"]]
    for name, *cells in counts[1:]:
        site, split = name.split(", ")
        assert [int(cell.replace(",", "")) for cell in cells] == list(run.sites[site]["splits"][split].values())
    assert {cells[1] for cells in found["Digests"][0][1:]} == {"3f" * 32, "a7" * 32}


def test_the_models_own_digests_are_listed(tmp_path):
    write_run(tmp_path)
    folder = tmp_path / "arms" / "fedavg"
    (folder / "BUSI.safetensors").write_text("own arrays")
    weights, own = (part_of(folder, f"{name}.safetensors") for name in ("best", "BUSI"))
    sites = {"BUSI": SiteFacts(images={"benign": 3}, own=own), "BUS-BRA": SiteFacts(images={})}
    run = {"arm": "fedavg", "seed": 0, "run": run_id(tmp_path), "phantoms": False, "predicts": None}
    write_model(folder, ModelFacts.from_settings(run_settings(), **run, weights=weights, sites=sites))
    ((_, *rows),) = tables(model_card(read_run(tmp_path)))["Digests"]
    digests = [hashlib.sha256(text).hexdigest() for text in (b"invented", b"own arrays")]
    assert rows[-2:] == [
        ["arms/fedavg, best.safetensors", digests[0]],
        ["arms/fedavg, BUSI.safetensors", digests[1]],
    ]
    (folder / "best.safetensors").unlink()
    with pytest.raises(RunError, match=r"best\.safetensors"):
        model_card(read_run(tmp_path))


def test_subgroups_have_their_figures_and_gaps(run):
    figures = run.results["arms"]["fedavg"]["BUSI"]
    shown = dict.fromkeys(("auc", "accuracy", "sensitivity", "specificity"), figures["auc"])
    gap = {"value": -0.05, "low": -0.1, "high": 0.01}
    group = {"images": 30, "patients": 20, "suppressed": "", "few": []}
    large = group | {"value": "20 mm or more", "arms": {"fedavg": shown}, "gaps": {"fedavg": {"auc": gap}}}
    unknown = group | {"value": "unknown", "arms": {"fedavg": shown | {"auc": None}}, "gaps": {"fedavg": {"auc": None}}}
    rest = {"value": "few", "suppressed": "few"}
    everything = group | {"arms": {"fedavg": shown}, "gaps": {}}
    found = {"unit": "patients", "all": everything, "columns": [{"name": "size", "groups": [large, rest, unknown]}]}
    results = run.results | {"subgroups": {"BUSI": found, "BUS-BRA": {"columns": [], "notes": ["none"]}}}
    ((_, *rows),) = tables(model_card(replace(run, results=results)))["BUSI, FedAvg"]
    few = "size: few (suppressed: fewer than 10 patients)"
    assert [row[0] for row in rows] == ["all test images", "size: 20 mm or more", few, "size: unknown"]
    assert same(rows[1][3], figures["auc"])
    assert same(rows[1][7], gap)
    assert rows[1][1:3] == ["30", "20"]
    assert not any(rows[2][1:])
    assert (rows[3][3], rows[3][7]) == ("n/a", "n/a")


def test_measured_subgroups_have_a_table(run):
    random, labels = np.random.default_rng(3), np.arange(120) % 3
    probabilities = random.dirichlet([1, 1, 1], size=len(labels))
    paths = [f"{number}.png" for number in range(len(labels))]
    rows = Predictions(labels, probabilities, [f"BUSI/{path}" for path in paths], ["BUSI"] * len(labels), paths)
    devices = {path: "A" if number < 60 else "B" if number < 115 else "" for number, path in enumerate(paths)}
    owners = {path: path for path in paths}
    found = measure_subgroups({"local": [[rows]], "fedavg": [[rows]]}, {"device": devices}, owners, 50, 0)
    results = run.results | {"subgroups": {"BUSI": found | {"unit": "patients", "notes": []}}}
    shown = tables(model_card(replace(run, results=results)))
    for arm, title in (("local", "BUSI, Own model"), ("fedavg", "BUSI, FedAvg")):
        ((_, *cells),) = shown[title]
        (column,) = found["columns"]
        assert len(cells) == 1 + len(column["groups"])
        for row, group in zip(cells, [found["all"], *column["groups"]], strict=True):
            if group.get("suppressed"):
                assert not any(row[1:])
                continue
            assert int(row[1]) == group["images"]
            assert all(same(cell, group["arms"][arm][key]) for cell, key in zip(row[3:7], FIGURES, strict=True))
            assert same(row[7], group["gaps"].get(arm, {}).get("auc"))


def test_calibration_and_threshold_equal_the_results(trained_run):
    results = read_run(trained_run).results
    found = {
        (wording.arm_label(arm), wording.site_label(place)): (each["fitted"][0], measured)
        for arm, each in results["calibration"]["arms"].items()
        for place, measured in each["places"].items()
    }
    results = json.loads(json.dumps(results))  # a copy, in which one arm has a threshold, whatever the training gave
    chosen = results["calibration"]["arms"]["fedavg"]
    point = {"value": 0.625, "low": 0.5, "high": 0.75}
    chosen["fitted"][0] |= {"threshold": 0.314, "reason": ""}
    chosen["places"]["north"]["operating_point"] = dict.fromkeys(("sensitivity", "specificity", "ppv", "npv"), point)
    before_after, *points = tables(model_card(replace(read_run(trained_run), results=results)))[SECTION]
    assert len(before_after) == 1 + 2 * len(found)
    for name, *cells, temperature in before_after[1:]:
        arm, place, when = name.rsplit(", ", 2)
        fitted, measured = found[arm, place]
        expected = [measured[when][key] for key in ("ece", "brier", "slope", "intercept")]
        assert all(same(cell, metric) for cell, metric in zip(cells, expected, strict=True)), name
        assert temperature == (f"{fitted['temperature']:.2f}" if when == "after" else "")
    ((_, *rows),) = points
    (north,) = [row for row in rows if row[0] == "FedAvg, north"]
    assert north[1] == "0.31"
    assert all(same(cell, point) for cell in north[2:])


def test_the_printed_settings_repeat_the_run(run, tmp_path):
    (toml,) = re.findall(r"```toml\n(.*?)```", model_card(run), re.DOTALL)
    path = tmp_path / "settings.toml"
    path.write_text(toml)
    assert "/" not in tomllib.loads(toml)["weights"]
    mine, original = load_settings(path, (), ()).as_dict(), run_settings().as_dict()
    for key in ("sites", "cache", "weights", "track"):
        assert PRIVATE not in str(mine.pop(key))
        original.pop(key)
    assert mine == original
    for site in run.sites:
        assert f"--site {site}={run.sites[site]['reader']}:FOLDER" in model_card(run)


def test_phantoms_are_named_first(tmp_path):
    write_run(tmp_path, phantoms=True)
    lines = model_card(read_run(tmp_path)).splitlines()
    assert lines[0].startswith("**PHANTOMS: synthetic images.")
    assert lines[2] == f"**{NOT_A_DEVICE}**"


def test_a_hub_has_a_card_of_its_counts(shared_hub_run):
    page = model_card(read_run(shared_hub_run))
    assert "fedbus hub run HUB settings.toml" in page
    assert "n/a" in page  # the AUC on all test images
    assert "Trained between sites that kept their images" in page
    assert "st-mary 3 images" in page


def test_under_secure_aggregation_a_card_has_figures_of_all_sites_only(shared_secure_run):
    page = model_card(read_run(shared_secure_run))
    assert "By secure aggregation: a round's updates were added up" in page
    assert "### Tested on mean of sites" in page
    assert "### st-mary" not in page
    assert page.count("its folder, in models/RUN-ARM-SEED/metrics.json") == 1


def test_several_seeds_have_a_spread(tmp_path):
    write_run(tmp_path, seeds=[0, 1])
    assert "±.011" in model_card(read_run(tmp_path))


def test_no_name_can_become_markup(run):
    results = dict(run.results)
    results["weights"] = "w|<script>alert(1)</script>[x](http://example.org)`*b*`"
    results["versions"] = {"a|b": "<img src=x>", "c": "1\n| x | y |"}
    settings = build_settings(run.settings.as_dict() | {"model": "m`|<b>"}, "the tests")
    page = model_card(FinishedRun(Path(run.path), results, settings, ()))
    html = PARSER.render(page)
    assert not re.search(r"<(script|img|b)\b|<a ", html)
    assert all(len(row) == len(table[0]) for each in tables(page).values() for table in each for row in table)
    ((_, *rows),) = tables(page)["Versions and machine"]
    assert rows[:2] == [["a|b", "<img src=x>"], ["c", "1 | x | y |"]]


def test_the_card_says_what_differential_privacy_covers_or_that_there_was_none(run):
    none = model_card(run)
    assert "trained without differential privacy" in none
    settings = run.results["settings"] | {"dp-epsilon": 8, "dp-delta": 1e-5, "dp-clip": 1.0}
    arm = next(arm for arm in run.results["arms"] if arm in run.results["work"])
    work = {arm: run.results["work"][arm] | {"epsilon": {"north": 7.98}}}
    card = model_card(replace(run, results=run.results | {"settings": settings, "work": work}))
    assert "(epsilon, delta) = (8, 1e-05)" in card
    assert "Not covered" in card
    assert "7.98" in card
