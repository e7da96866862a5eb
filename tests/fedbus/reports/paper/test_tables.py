"""The paper's figures on terminal and page: every digit, the reason of every gap, nothing of phantoms."""

import html
import io
import re

import pytest
from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.paper import published
from fedbus.reports.paper.tables import CENSUS_NOTE, CONCLUSION, census_table, paper_fragment, paper_table
from tests.report_sample import sample_results


def real_results(**readers):
    """The sample as a run of real datasets."""
    results = sample_results(phantoms=False)
    found = {"BUSI": "busi", "BUS-UCLM": "bus-uclm", "BUS-BRA": "bus-bra"} | readers
    for site, reader in found.items():
        results["sites"][site]["reader"] = reader
    return results


def printed(table):
    console = Console(file=io.StringIO(), width=150)
    console.print(table)
    return console.file.getvalue()


def text_of(fragment):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", fragment)).split())


def line_of(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_the_terminal_has_both_figures_on_one_line():
    results = real_results()
    found, text = results["arms"]["local-BUSI"]["BUSI"], printed(paper_table(results))
    line = line_of(text, "BUSI ")
    for expected in (".954 .953 .992", *(wording.with_interval(found[m]) for m in ("accuracy", "macro_f1", "auc"))):
        assert expected in line
    theirs = line_of(text, "GDPH&SYSUCC")
    assert ".957 .957 .984" in theirs
    assert published.NOT_IN_RUN in theirs
    assert "not a dataset of the paper" in line_of(text, "BUS-BRA")


def test_the_page_has_the_same_with_protocols_and_conclusion():
    results = real_results()
    fragment = paper_fragment(results)
    text = text_of(fragment)
    for expected in (CONCLUSION, published.PROTOCOL, published.our_protocol(results), published.NOT_IN_RUN):
        assert expected in text
    for metric in ("accuracy", "macro_f1", "auc"):
        assert wording.value(results["arms"]["local-BUS-BRA"]["BUS-BRA"][metric]) in text
    assert "10.21203/rs.3.rs-7855980/v1" in text
    assert "GDPH&amp;SYSUCC" in fragment
    assert "<h2" not in fragment  # the page gives the section and its heading
    assert "<section" not in fragment
    for table in re.findall(r"<table.*?</table>", fragment, flags=re.DOTALL):
        body = table.split("<tbody>")[1]
        widths = {_width(row) for row in re.findall(r"<tr>.*?</tr>", body, flags=re.DOTALL)}
        assert len(widths) == 1  # no cell is missing, no cell too many


def _width(row):
    cells = re.findall(r"<t[hd]([^>]*)>", row)
    return sum(int((re.search(r'colspan="(\d+)"', cell) or [0, "1"])[1]) for cell in cells)


def test_the_census_has_the_three_totals_and_the_images_of_the_run():
    results = real_results()
    note = CENSUS_NOTE.format(stated=3971, classes=3563, published=3868)
    text = printed(census_table(results))
    assert "3971" in line_of(text, "Stated in the paper")
    site = results["sites"]["BUS-BRA"]
    line = line_of(text, "BUS-BRA")
    assert "1875" in line
    assert str(site["images"]) in line
    assert note in " ".join(text.split())
    assert note in text_of(paper_fragment(results))
    assert line_of(text, "BUSI ").split()[-1] == str(len(results["sites"]["BUSI"]["dropped"]))


def test_a_site_with_another_name_is_named():
    results = real_results(BUSI="bus-bra")
    assert "BUS-BRA (site BUSI)" in text_of(paper_fragment(results))
    assert "BUS-BRA (site BUSI)" in printed(paper_table(results))


def test_phantoms_have_no_row_anywhere():
    results = sample_results(phantoms=True)
    for site in results["sites"].values():
        site["reader"] = "busi"
    assert paper_table(results) is None
    assert census_table(results) is None
    assert paper_fragment(results) == ""


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "auc"])
def test_an_undefined_metric_is_marked(metric):
    results = real_results()
    results["arms"]["local-BUSI"]["BUSI"][metric] = None
    assert wording.MISSING in line_of(printed(paper_table(results)), "BUSI ")
    assert wording.MISSING in paper_fragment(results)


def test_names_from_outside_are_text():
    results = real_results()
    hostile = "<script>[bold]x"
    results["sites"][hostile] = results["sites"].pop("BUS-BRA")
    results["settings"] |= {"model": hostile, "image-size": 96}
    fragment = paper_fragment(results)
    assert "<script>" not in fragment
    assert "&lt;script&gt;[bold]x" in fragment
    assert "[bold]" in printed(paper_table(results)).replace("\n", "")
