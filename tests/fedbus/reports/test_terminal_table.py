"""Every table of the terminal at several widths: no line is too long, no interval is broken."""

import io
import re

import pytest
from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.comparison.tables import comparison_table, recall_table
from fedbus.reports.external.tables import classes_table, differences_table, models_table
from fedbus.reports.paper.tables import census_table, paper_table
from fedbus.reports.settings_table import settings_table
from fedbus.reports.study.gap import gap_table
from fedbus.reports.study.leaks import leak_table
from fedbus.reports.study.tables import study_table
from fedbus.settings.schema import Settings
from tests.report_sample import sample_results
from tests.study_report_sample import SKILL, leakage_content, study_content

WIDTHS = [80, 100, 140]


def _with_paper():
    results = sample_results(phantoms=False)
    for site, reader in {"BUSI": "busi", "BUS-UCLM": "bus-uclm", "BUS-BRA": "bus-bra"}.items():
        results["sites"][site]["reader"] = reader
    return results


def _with_gap():
    content = study_content()
    difference = {"value": -0.123, "low": -0.234, "high": 0.012}
    own = {f"local-{site}": {site: {"auc": difference}} for site in content["sites"]}
    pooled = {"centralised": {"all": {"auc": difference, "macro_f1": difference}}}
    for cell in content["cells"].values():
        cell["gap"] = {"fedavg": pooled | own}
    return content


def _evaluation():
    """An external validation of three models of one dataset, which lacks a class."""
    results = sample_results()
    results["sites"] = {"BUS-BRA": results["sites"]["BUS-BRA"]}
    results["arms"] = {
        name: {"all": results["arms"][arm]["BUS-BRA"]}
        for name, arm in (("fedavg of runs/second", "fedavg"), ("local-BUSI", "local-BUSI"), ("centralised", "fedavg"))
    }
    difference = {"value": -0.123, "low": -0.234, "high": -0.012}
    first, *others = results["arms"]
    results["differences"] = [
        {"arm": first, "reference": other, "site": "all", "metric": metric, **difference}
        for other in others
        for metric in ("auc", "macro_f1", "accuracy")
    ]
    return results


TABLES = {
    "comparison": (comparison_table, sample_results()),
    "comparison, seeds": (comparison_table, sample_results(seeds=3)),
    "recall": (recall_table, sample_results()),
    "recall, seeds": (recall_table, sample_results(seeds=3)),
    "study": (study_table, study_content()),
    "study, seeds": (study_table, study_content(arms=tuple(SKILL), seeds=3)),
    "leaks": (leak_table, leakage_content()),
    "gap": (gap_table, _with_gap()),
    "evaluation": (models_table, _evaluation()),
    "evaluation, classes": (classes_table, _evaluation()),
    "evaluation, differences": (differences_table, _evaluation()),
    "paper": (paper_table, _with_paper()),
    "census": (census_table, _with_paper()),
}


def _lines(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_no_line_is_too_long_or_ends_inside_an_interval(name, width):
    build, content = TABLES[name]
    lines = _lines(build(content), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    for line in lines:
        assert not re.search(r"\([−+.\d][^()]*$", line), line  # prose in a caption may wrap inside parentheses
        assert not re.search(r"(\d–|−|\d to)$", line), line


@pytest.mark.parametrize("width", WIDTHS)
def test_every_interval_of_a_comparison_is_whole_on_a_line(width):
    results = sample_results()
    lines = _lines(comparison_table(results), width)
    for found in results["arms"].values():
        for metric in ("accuracy", "macro_f1", "auc"):
            bounds = wording.interval(found["all"][metric]).strip("()")
            assert any(bounds in line for line in lines)


def test_intervals_follow_the_value_or_are_below_it_in_a_narrow_terminal():
    results = sample_results()
    metric = results["arms"]["fedavg"]["all"]["auc"]
    assert wording.with_interval(metric) in "\n".join(_lines(comparison_table(results), 130))
    narrow = _lines(comparison_table(results), 80)
    row = next(number for number, line in enumerate(narrow) if line.startswith("FedAvg"))
    assert wording.value(metric) in narrow[row]
    assert wording.interval(metric).strip("()") in narrow[row + 1]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_many_sites_with_long_names_get_several_tables(width):
    results = sample_results()
    for number in range(8):
        results["sites"][f"St. Mary's University Hospital, department {number}"] = results["sites"]["BUSI"]
    lines = _lines(comparison_table(results), width)
    assert max(map(len, lines)) <= width
    assert sum("Comparison" in line for line in lines) > 1
    metric = results["arms"]["fedavg"]["all"]["auc"]
    assert (wording.with_interval(metric) if width == 100 else wording.interval(metric).strip("()")) in "\n".join(lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_setting_is_listed_with_its_default(width):
    lines = _lines(settings_table(), width)
    assert max(map(len, lines)) <= width
    for key in Settings.model_validate({}).as_dict():
        assert any(line.split()[:1] == [key] for line in lines)
