"""The page of a study: complete, offline, escaped, with every warning."""

import html
import re

import pytest
from markupsafe import Markup

from fedbus.errors import RunError
from fedbus.reports import wording
from fedbus.reports.study import page
from tests.html_reader import HtmlReader
from tests.study_report_sample import REASON, SKILL, federation_content, leakage_content, study_content


def _holes_only():
    content = study_content() | {"arms": [], "sites": {}, "classes": []}
    for cell in content["cells"].values():
        for key in ("arms", "differences", "validation", "work"):
            cell.pop(key, None)
        cell |= {"state": "failed", "reason": "the disk is full", "seconds": None}
    return content


CONTENTS = {
    "two": study_content(),
    "six": study_content(arms=tuple(SKILL), seeds=3),
    "federation": federation_content(),
    "leakage": leakage_content(),
    "holes": _holes_only(),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_page_is_complete_and_loads_nothing(name):
    text = page.render_study(CONTENTS[name], {"The paper": Markup("<p id='x'>A fragment.</p>")})
    reader = HtmlReader(text)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert not {"script", "link", "iframe", "object", "embed", "form", "img"} & set(reader.tags)
    assert {link.removeprefix("#") for link in reader.loaded} <= set(reader.ids)
    assert "<p id='x'>A fragment.</p>" in text
    assert "None" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert text == page.render_study(CONTENTS[name], {"The paper": Markup("<p id='x'>A fragment.</p>")})


def test_every_figure_of_the_cells_is_on_the_page():
    content = CONTENTS["six"]
    text = re.sub(r"</b>\s*<small>", "", page.render_study(content, {}))
    for cell in content["cells"].values():
        for arm, found in cell.get("arms", {}).items():
            shown = [found[site][metric] for site in content["sites"] for metric in ("auc", "macro_f1")]
            shown += [found[wording.home(arm) or "all"]["accuracy"]]
            shown += [found["mean"]["auc"]] if wording.home(arm) is None else []
            recalls = [place["sensitivity"] for name, place in found.items() if name != "mean"]
            shown += [metric for recall in recalls for metric in recall.values() if metric]
            assert all(html.escape(wording.value(metric) + wording.interval(metric)) in text for metric in shown)
    assert html.escape(REASON) in text
    for found in content["sites"].values():
        for split, counts in found["splits"].items():
            row = "".join(f'<td class="count">{count}</td>' for count in counts.values())
            assert f"<td>{split}</td>{row}" in text


def test_phantoms_are_named_in_every_section_and_table_and_only_then():
    text = page.render_study(study_content(), {})
    sections = re.split(r"<section ", text)[1:]
    captions = re.findall(r"<caption>.*?</caption>", text, flags=re.DOTALL)
    assert all(wording.PHANTOMS in section for section in sections)
    assert len(captions) == text.count("<table")
    assert all(wording.PHANTOMS in caption for caption in captions)
    assert "PHANTOMS" not in page.render_study(study_content(phantoms=False), {})


def test_leakage_has_its_shares_and_limits_and_only_where_there_is_any():
    text = page.render_study(leakage_content(), {})
    assert "40 (26 %)" in text  # of BUSI's 156 test rows
    assert "<b>+.100</b> <small>(.070–.130)</small>" in text
    assert "Whether a paper used A or B can't be seen here" in text
    assert 'id="leakage"' not in page.render_study(study_content(), {})


def test_text_of_the_content_is_escaped():
    bad = "<script>alert(1)</script>"
    content = study_content(failed={"x": bad}) | {"title": bad, "question": bad, "command": bad, "weights": bad}
    text = page.render_study(content, {bad: Markup("")})
    assert "<script" not in text
    assert text.count(html.escape(bad)) >= 6


def test_the_folder_gets_page_figure_and_table(tmp_path):
    content = study_content(arms=("centralised",))
    assert page.write_study(content, {}, tmp_path) == tmp_path / "report.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "report.html", "table.md"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.render_study(content, {})


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunError, match=r"report\.html could not be written"):
        page.write_study(study_content(arms=("centralised",)), {}, tmp_path / "out")
