"""The report of a run under secure aggregation: the figures of all sites together, and nothing of a single one."""

import html
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.predictions import join
from fedbus.reports import wording
from fedbus.reports.comparison.summary import cautions
from fedbus.reports.comparison.tables import comparison_table, recall_table
from tests.server.hub.finished_hub_run import SKILLS, TEST, predictions, report

CLASSES_AT = {"st-mary": [0, 1, 2], "north": [0, 1, 2], "coast-clinic": [0, 1]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report(tmp_path_factory.mktemp("hub"), secure=True)


@pytest.fixture(scope="module")
def results(page):
    return json.loads((page.parent / "results.json").read_text())


@pytest.fixture(scope="module")
def plain(plain_page):
    """The results of the same run without secure aggregation."""
    return json.loads((plain_page.parent / "results.json").read_text())


@pytest.fixture
def written(monkeypatch):
    """Keep results instead of drawing their figures."""
    found = []
    monkeypatch.setattr("server.hub.report.write_results", lambda results, *rest: found.append(results))
    return found


def auc_at(site, skill):
    rows = predictions(site, skill)
    classes = CLASSES_AT[site]
    if len(classes) == 2:
        shares = rows.probabilities[:, 1] / rows.probabilities[:, classes].sum(axis=1)
        return roc_auc_score(rows.labels, shares)
    return roc_auc_score(rows.labels, rows.probabilities, multi_class="ovr")


def test_figures_of_all_rows_are_those_of_scikit_learn(results):
    for arm, skill in SKILLS.items():
        rows = join([predictions(site, skill) for site in TEST])
        predicted, found = rows.probabilities.argmax(axis=1), results["arms"][arm]["all"]
        assert found["accuracy"]["value"] == pytest.approx(accuracy_score(rows.labels, predicted))
        assert found["macro_f1"]["value"] == pytest.approx(f1_score(rows.labels, predicted, average="macro"))
        assert np.sum(found["confusion"]) == len(rows.labels) == found["images"]
        assert found["auc"] is None


def test_the_mean_of_sites_is_that_of_the_sites_own_figures(results, plain):
    for arm in SKILLS:
        for name in ("auc", "macro_f1", "accuracy"):
            at_sites = [plain["arms"][arm][site][name]["value"] for site in TEST]
            found = results["arms"][arm]["mean"][name]
            assert found["value"] == pytest.approx(np.mean(at_sites))
            assert 0 < found["low"] < found["value"] < found["high"] < 1
    expected = np.mean([auc_at(site, SKILLS["fedavg"]) for site in ("st-mary", "north")])
    known = [plain["arms"]["fedavg"][site]["auc"]["value"] for site in ("st-mary", "north")]
    assert np.mean(known) == pytest.approx(expected)


def test_all_other_figures_equal_those_of_a_run_without_secure_aggregation(results, plain):
    for arm in SKILLS:
        assert close(results["arms"][arm]["all"], plain["arms"][arm]["all"])
        found, expected = (each["calibration"]["arms"][arm] for each in (results, plain))
        assert found["fitted"] == expected["fitted"]
        assert found["places"].keys() == {"all"}
        assert close(found["places"]["all"], expected["places"]["all"])
    rest = results.keys() - {"arms", "calibration", "tested_at", "settings", "created", "command"}
    assert all(results[key] == plain[key] for key in rest)


def close(found, expected):
    """Whether nested figures are equal but for the rounding of covariances."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found is None if expected is None else found == pytest.approx(expected, abs=1e-5)


def test_no_figure_of_a_single_site_is_in_the_results(results, page):
    for arm in SKILLS:
        assert results["arms"][arm].keys() == {"all", "mean"}
    assert results["tested_at"]["fedavg"] == {"sites": list(TEST), "seeds": [0]}
    for name in ("results.json", "report.html", "table.md"):
        text = (page.parent / name).read_text()
        for site in TEST:
            assert f"AUC of FedAvg on {site}" not in text
            assert f"{site}: AUC" not in text
        own = {wording.number(auc_at(site, skill)) for site in TEST for skill in SKILLS.values()}
        shown = {wording.value(found[place][m]) for found in results["arms"].values() for place in found
                 for m in ("auc", "macro_f1", "accuracy")}  # fmt: skip
        if name == "table.md":
            assert not any(figure in text for figure in own - shown)


def test_the_page_says_what_the_hub_knows_and_where_each_site_has_its_figures(page, results):
    text = html.unescape(page.read_text())
    assert text.count(wording.TOTALS_ONLY) == 2
    assert "models/RUN-ARM-SEED/metrics.json" in wording.TOTALS_ONLY
    assert text.count(wording.PER_IMAGE) == 1
    assert "Zou and Donner 2008" in text
    mean = results["arms"]["fedprox"]["mean"]["auc"]
    assert f"(FedProx) reached AUC {wording.with_interval(mean)} as the mean of the sites and accuracy" in text
    assert f"{wording.value(mean)} <small>AUC</small>" in text
    assert "Not every model was scored" not in text
    assert "Figures are only of" not in text
    assert "macro F1 by site" not in text
    assert "A site sends nothing but" not in text
    assert "None" not in re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL)


def test_tables_have_no_columns_of_sites(results, page):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(comparison_table(results))
    console.print(recall_table(results))
    text = console.export_text()
    assert "mean of sites" in text
    assert not any(site in text for site in TEST)
    head = (page.parent / "table.md").read_text().splitlines()[0]
    assert head == "|  | accuracy, all | macro F1, all | AUC, mean of sites | AUC, all |"
    narrow = Console(width=60, record=True, file=io.StringIO())
    narrow.print(comparison_table(results))
    assert "FedAvg" in narrow.export_text()


def test_several_seeds_are_averaged(tmp_path, written):
    report(tmp_path, seeds=2, secure=True)
    (results,) = written
    for place, name in (("all", "accuracy"), ("mean", "auc")):
        found = results["arms"]["fedavg"][place][name]
        assert found["spread"] > 0
    right = [
        np.mean(np.concatenate([each.probabilities.argmax(axis=1) == each.labels for each in rows]))
        for rows in ([predictions(site, 0.5, seed) for site in TEST] for seed in range(2))
    ]
    assert results["arms"]["fedprox"]["all"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    fitted = [calibrate([predictions(s, 0.35, 10 + seed) for s in TEST], "sensitivity=0.95") for seed in range(2)]
    found = results["calibration"]["arms"]["fedavg"]
    assert [each["temperature"] for each in found["fitted"]] == [each.temperature for each in fitted]


def test_a_seed_that_fewer_sites_tested_is_left_out_and_named(tmp_path, written):
    report(tmp_path, seeds=2, secure=True, without={("fedavg", "north", 1), ("fedprox", "north")})
    (results,) = written
    assert results["tested_at"] == {
        "fedavg": {"sites": list(TEST), "seeds": [0]},
        "fedprox": {"sites": ["st-mary", "coast-clinic"], "seeds": [0, 1]},
    }
    assert results["arms"]["fedavg"]["all"]["images"] == sum(sum(counts) for counts in TEST.values())
    assert results["arms"]["fedprox"]["all"]["images"] == sum(TEST["st-mary"]) + sum(TEST["coast-clinic"])
    (caution,) = [sentence for sentence in cautions(results) if "took part in the test" in sentence]
    assert caution.endswith(": FedAvg without seed 1; FedProx without north.")
