"""The tables: every figure, every verdict, no lost digit."""

import io

import pytest
from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.comparison import tables
from tests.report_sample import sample_results


def _printed(table, width=110):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_the_comparison_fits_130_columns_with_intervals_on_one_line():
    results = sample_results()
    lines = _printed(tables.comparison_table(results), width=130).splitlines()
    for arm, label in (("local-BUS-UCLM", "BUS-UCLM alone"), ("centralised", "Centralised"), ("fedavg", "FedAvg")):
        line = next(line for line in lines if line.strip().startswith(label))
        found = results["arms"][arm]
        for metric in ("accuracy", "macro_f1", "auc"):
            assert wording.with_interval(found["all"][metric]) in line
        assert wording.with_interval(found["mean"]["auc"]) in line
        for site in results["sites"]:
            assert f"{wording.value(found[site]['auc'])} {wording.value(found[site]['macro_f1'])}" in line
    assert max(map(len, lines)) <= 130


def test_a_narrow_terminal_loses_no_digit():
    results = sample_results()
    printed = _printed(tables.comparison_table(results), width=80)
    assert "…" not in printed
    for site in results["sites"]:
        assert wording.value(results["arms"]["fedprox"][site]["macro_f1"]) in printed


def test_spread_over_seeds_is_printed():
    assert "±.011" in _printed(tables.comparison_table(sample_results(seeds=3)))


def test_a_lost_class_is_marked_in_words():
    lines = _printed(tables.recall_table(sample_results())).splitlines()
    lost = [line for line in lines if " LOST" in line and "LOST:" not in line]
    assert len(lost) == 2
    assert any("BUS-UCLM" in line for line in lost)
    assert any("no such images" in line for line in lines if "BUS-BRA" in line)


def test_markdown_has_one_row_per_arm_and_escapes_names():
    results = sample_results()
    results["sites"]["a|b<i>"] = results["sites"].pop("BUS-BRA")
    rows = [line for line in tables.markdown_table(results).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3 + len(results["arms"])
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "a\\|b&lt;i&gt;" in rows[0]
    assert wording.with_interval(results["arms"]["fedavg"]["all"]["auc"]) in "".join(rows)


@pytest.mark.parametrize("phantoms", [True, False])
def test_phantoms_are_named_on_every_table_and_only_then(phantoms):
    results = sample_results(phantoms=phantoms)
    for table in (tables.comparison_table, tables.recall_table):
        assert (wording.PHANTOMS in _printed(table(results))) == phantoms
    assert (wording.PHANTOMS in tables.markdown_table(results)) == phantoms


def test_rich_markup_in_a_site_name_is_text():
    results = sample_results()
    name = "[red]x[/nonsense]"
    results["sites"][name] = results["sites"].pop("BUS-BRA")
    assert "[/nonsense]" in _printed(tables.comparison_table(results), width=160)
