"""A federation of very many sites: tables and page show the extreme sites and describe the others."""

import copy
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.comparison.few_sites import EXTREMES, MOST_SITES, NOTE, few_sites
from fedbus.reports.comparison.page import render_report
from fedbus.reports.comparison.tables import comparison_table, markdown_table, recall_table
from tests.report_sample import sample_results

SITES = 1000


@pytest.fixture(scope="module")
def many():
    """The sample's results with a thousand sites, whose AUCs under FedAvg rise with their numbers."""
    results = sample_results()
    site, arms = results["sites"]["BUSI"], results["arms"]
    names = [f"site-{number}" for number in range(SITES)]
    results["sites"] = {name: copy.deepcopy(site) for name in names}
    for arm in ("local-BUSI", "local-BUS-UCLM", "local-BUS-BRA"):
        own = arms.pop(arm)
        arms |= {f"local-{name}": {name: own["BUSI"], "all": own["all"]} for name in names if arm == "local-BUSI"}
    for arm in ("centralised", "fedavg", "fedprox"):
        places = arms[arm]
        at_site = places["BUSI"]
        arms[arm] = dict.fromkeys(names, at_site) | {"all": places["all"], "mean": places["mean"]}
    arms["fedavg"] |= {
        name: at_site | {"auc": at_site["auc"] | {"value": 0.5 + 0.5 * number / (SITES - 1)}}
        for number, name in enumerate(names)
    }
    results["differences"] = [
        {**row, "site": name} for row in results["differences"] if row["site"] == "BUSI" for name in names
    ]
    results["claims"] = {}
    for record in results["federation"].values():
        for line in record["rounds"]:
            line["participants"], line["refused"] = names[3:], {}
    return results


def test_few_sites_are_left_unchanged():
    results = sample_results()
    assert len(results["sites"]) <= MOST_SITES
    assert few_sites(results) is results


def test_only_the_extreme_sites_are_kept_and_the_others_are_described(many):
    before = copy.deepcopy(many)
    found = few_sites(many)
    expected = [f"site-{n}" for n in (*range(EXTREMES), *range(SITES - EXTREMES, SITES))]
    assert list(found["sites"]) == expected
    assert [arm for arm in found["arms"] if arm.startswith("local-")] == [f"local-{name}" for name in expected]
    assert {row["site"] for row in found["differences"]} <= {*expected, "all", "mean"}
    assert found["arms"]["fedavg"]["all"] == many["arms"]["fedavg"]["all"]
    low, median, high = (wording.number(value) for value in np.quantile(np.linspace(0.5, 1, SITES), (0.25, 0.5, 0.75)))
    assert f"median {median}, half of them from {low} to {high}, least .500, most 1.000" in found[NOTE]
    assert "3 sites were missing or refused" in found[NOTE]
    assert many == before  # results.json keeps all
    for label in many["classes"]:
        assert wording.tested(found, "all", label) == wording.tested(many, "all", label)


def test_terminal_and_page_stay_short(many):
    screen = StringIO()
    console = Console(file=screen, width=120)
    console.print(comparison_table(many))
    console.print(recall_table(many))
    assert "site-999" in screen.getvalue()
    assert "site-500" not in screen.getvalue()
    assert len(screen.getvalue().splitlines()) < 250
    table, page = markdown_table(many), render_report(many, {}, {})
    assert "1000 sites (hospitals or datasets) classify" in page
    for text in (table, page):
        assert "site-999" in text
        assert "site-500" not in text
        assert "10 of 1000 sites are shown" in text
    assert len(page) < 3_000_000
