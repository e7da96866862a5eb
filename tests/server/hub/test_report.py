"""The report of a deployed run, from invented scores: complete, with every figure, and nothing but counts."""

import html
import json
import re

import numpy as np
import pytest
from PIL import Image

from fedbus.errors import RunError
from fedbus.evaluation.calibrated import FIGURES as CALIBRATION_FIGURES
from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.predictions import Predictions, join
from fedbus.reports import wording
from fedbus.seeds import derive_seed
from tests.report_sample import sample_results
from tests.server.hub.finished_hub_run import SKILLS, TEST, predictions, report


@pytest.fixture(scope="module")
def page(plain_page):
    return plain_page


@pytest.fixture(scope="module")
def results(page):
    return json.loads((page.parent / "results.json").read_text())


def test_the_figures_equal_those_of_a_simulation(results):
    for arm, skill in SKILLS.items():
        found = [predictions(site, skill) for site in TEST]
        columns = ("labels", "probabilities", "groups", "sites", "paths")
        everywhere = Predictions(*(np.concatenate([getattr(each, name) for each in found]) for name in columns))
        seed = derive_seed(0, "bootstrap")
        for site in TEST:
            assert results["arms"][arm][site] == evaluate([everywhere.select(site)], 400, seed)
        exact, pooled = evaluate([everywhere], 400, seed), results["arms"][arm]["all"]
        for name in ("accuracy", "macro_f1"):
            assert pooled[name]["value"] == exact[name]["value"]
            assert pooled[name]["low"] == pytest.approx(exact[name]["low"], abs=0.015)
            assert pooled[name]["high"] == pytest.approx(exact[name]["high"], abs=0.015)
        assert pooled["confusion"] == exact["confusion"]
        assert pooled["auc"] is pooled["ece"] is None


def test_the_calibration_equals_that_of_a_simulation(results, page):
    for arm, skill in SKILLS.items():
        fitted = calibrate([predictions(site, skill, 10) for site in TEST], "sensitivity=0.95")
        found = results["calibration"]["arms"][arm]
        assert found["fitted"] == [{"seed": 0, **fitted.model_dump(exclude={"counts", "rule"})}]
        tested = {site: predictions(site, skill) for site in TEST}
        for site, rows in tested.items():
            expected = measure_calibration([(rows, fitted)], 400, derive_seed(0, "bootstrap"))
            for key in ("operating_point", "decision_curve", "images"):
                assert found["places"][site][key] == expected[key]
            for when in ("before", "after"):
                assert all(found["places"][site][when][name] == expected[when][name] for name in CALIBRATION_FIGURES)
        exact = measure_calibration([(join(list(tested.values())), fitted)], 400, derive_seed(0, "bootstrap"))
        pooled = found["places"]["all"]
        for when in ("before", "after"):
            assert pooled[when]["ece"]["value"] == pytest.approx(exact[when]["ece"]["value"], abs=0.005)
            assert pooled[when]["brier"]["value"] == pytest.approx(exact[when]["brier"]["value"])
            assert pooled[when]["slope"] is pooled[when]["intercept"] is None
        assert pooled["decision_curve"] == exact["decision_curve"]
        for name in ("sensitivity", "specificity", "ppv", "npv"):
            ours, theirs = pooled["operating_point"][name], exact["operating_point"][name]
            assert ours["value"] == theirs["value"]
            assert (ours["low"], ours["high"]) == pytest.approx((theirs["low"], theirs["high"]), abs=0.02)


def test_the_results_have_the_keys_of_a_simulation(results):
    simulated = sample_results()
    assert results.keys() == {*simulated, "calibration", "subgroups"}
    assert results["arms"]["fedavg"].keys() == {*TEST, "all"}
    assert results["arms"]["fedavg"]["all"].keys() == simulated["arms"]["fedavg"]["all"].keys()
    assert results["federation"]["fedprox"]["rounds"][0] == {"round": 1, "participants": list(TEST), "refused": {}}
    assert results["work"]["fedavg"] == {"steps": 540, "seconds": 186.0, "best_round": 5}
    assert results["sites"]["st-mary"]["images"] == 5 * sum(TEST["st-mary"])
    assert results["differences"] == []
    assert re.search(r"weights\.pth; SHA-256 of the start [0-9a-f]{16} \(seed 0\)$", results["weights"])


def test_every_figure_is_on_the_page(page, results):
    text = re.sub(r"</b>\s*<small>", "", page.read_text())
    for found in results["arms"].values():
        shown = [found["all"][name] for name in ("accuracy", "macro_f1")]
        shown += [found[site][name] for site in TEST for name in ("auc", "macro_f1")]
        shown += [metric for name in ("sensitivity", "specificity") for metric in found["all"][name].values()]
        for metric in shown:
            assert html.escape(wording.value(metric) + wording.interval(metric)) in text
    assert text.rstrip().endswith("</html>")
    assert "None" not in re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL)


def test_the_page_says_what_stays_at_the_sites(page, results):
    text = page.read_text()
    assert text.count(wording.PER_IMAGE) == 1
    assert "3 images were left out; the site knows which ones and why." in text
    assert text.count("The site's own images, which stay there.") == len(TEST)
    assert "All sites trained one model together, and every image stayed where it was" in text
    assert "normal draws" in text
    assert "unknown: the dataset has no patient ids" in text
    for absent in ("Centralised", "“Alone”", "alone are dashed", "<img", "embedded", "PHANTOMS"):
        assert absent not in text, absent


def test_no_path_no_image_and_no_patient_is_in_any_file(page):
    answers = predictions("st-mary", SKILLS["fedavg"])
    for file in sorted(page.parent.iterdir()):
        if not file.is_file() or file.name == "settings.json":  # the hub's own settings name its own folders
            continue
        text = file.read_bytes().decode("utf-8", errors="replace")
        assert str(page.parents[1]) not in text, file
        assert not re.search(r"ward/|\.png|patient-\d", text), file
        # Nine digits: of the many figures of a report, some begin like a probability by chance.
        assert not any(repr(p)[:11] in text for p in answers.probabilities[:, 0].tolist()), file


def test_the_summary_leads_with_what_is_known(page, results):
    text = page.read_text()
    everywhere = results["arms"]["fedprox"]["all"]
    reached = [
        f"{wording.METRICS[name]} {wording.with_interval(everywhere[name])}" for name in ("accuracy", "macro_f1")
    ]
    assert f"Federated training (FedProx) reached {' and '.join(reached)} on all test images." in text
    assert f"AUC of FedAvg on each site&#39;s test images: st-mary {wording.value(_auc(results))}" in text
    assert f"{wording.value(everywhere['accuracy'])} <small>accuracy</small>" in text
    assert "FedAvg: in 1 of 6 rounds a site was missing or its update was refused." in text
    assert "was not scored at" not in text


def _auc(results):
    return results["arms"]["fedavg"]["st-mary"]["auc"]


def test_the_headline_and_the_markdown_table_are_written_beside_the_page(page, results):
    with Image.open(page.parent / "headline.png") as figure:
        assert figure.width == 2000
    table = (page.parent / "table.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| Fed")]
    assert len(rows) == len(SKILLS)
    accuracy = results["arms"]["fedavg"]["all"]["accuracy"]
    assert f"| FedAvg | {wording.with_interval(accuracy)} |" in rows[0]
    assert rows[0].count(wording.MISSING) == 1  # the AUC over all
    assert wording.PER_IMAGE in table


def test_several_seeds_have_a_spread_and_averaged_intervals(tmp_path):
    page = report(tmp_path, seeds=2)
    results = json.loads((page.parent / "results.json").read_text())
    for place in (*TEST, "all"):
        runs = [predictions(site, 0.5, seed) for seed in range(2) for site in (TEST if place == "all" else [place])]
        half = len(runs) // 2
        right = [
            np.mean(np.concatenate([run.probabilities.argmax(axis=1) == run.labels for run in each]))
            for each in (runs[:half], runs[half:])
        ]
        found = results["arms"]["fedprox"][place]["accuracy"]
        assert found["value"] == pytest.approx(np.mean(right))
        assert found["spread"] == pytest.approx(np.std(right, ddof=1))
    assert "the bounds of the intervals are averaged" in page.read_text()
    calibrated = results["calibration"]["arms"]["fedavg"]
    fitted = [calibrate([predictions(s, 0.35, 10 + seed) for s in TEST], "sensitivity=0.95") for seed in range(2)]
    assert [each["temperature"] for each in calibrated["fitted"]] == [each.temperature for each in fitted]
    runs = [(predictions("north", 0.35, seed), fitted[seed]) for seed in range(2)]
    briers = [measure_calibration([run], 20, 0)["after"]["brier"]["value"] for run in runs]
    assert calibrated["places"]["north"]["after"]["brier"]["value"] == pytest.approx(np.mean(briers))
    assert calibrated["places"]["all"]["operating_point"]["npv"]["spread"] >= 0


def test_a_site_without_scores_is_named_and_not_counted(tmp_path):
    page = report(tmp_path, without={("fedavg", "north")}, phantoms=True)
    results, text = json.loads((page.parent / "results.json").read_text()), page.read_text()
    for arm in ("fedavg", "fedprox"):  # both on the same rows, though FedProx was scored there
        assert "north" not in results["arms"][arm]
        assert results["arms"][arm]["all"]["images"] == sum(TEST["st-mary"]) + sum(TEST["coast-clinic"])
    assert "Not every model was scored at north" in text
    assert wording.PHANTOMS in text


def test_an_arm_without_scores_is_an_error(tmp_path):
    with pytest.raises(RunError, match="No site scored the best model"):
        report(tmp_path, without={("fedavg", site) for site in TEST})
    assert not (tmp_path / "run" / "report.html").exists()
