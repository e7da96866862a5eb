"""The figure of a study: well-formed, repeatable, with every number, and nothing off the page."""

from xml.etree import ElementTree

import pytest
from matplotlib import style
from matplotlib.text import Text
from PIL import Image

from fedbus.reports import style as canvas
from fedbus.reports import wording
from fedbus.reports.study import figure as study_figure
from tests.study_report_sample import REASON, SKILL, federation_content, leakage_content, study_content

LONG = {"a-very-long-name-of-a-cell-that-somebody-typed_with-values_0.001": REASON * 3}
CONTENTS = {
    "two": study_content(),
    "six": study_content(arms=tuple(SKILL)),
    "one": study_content(arms=("centralised",), failed=LONG),
    "federation": federation_content(),
    "leakage": leakage_content(),
}


def _texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_estimate_and_difference_is_written_and_the_figure_is_repeatable():
    content = study_content()
    svg = study_figure.study_figure(content)
    texts = _texts(svg)
    for cell in content["cells"].values():
        for arm, found in cell.get("arms", {}).items():
            for metric, place in (("auc", "mean"), ("macro_f1", "all")):
                assert wording.value(found[place][metric]) in texts
                if "differences" in cell:
                    assert wording.value(cell["differences"][arm][place][metric], signed=True) in texts
    assert svg == study_figure.study_figure(study_content())
    assert wording.PHANTOMS in texts
    assert wording.PHANTOMS not in study_figure.study_figure(study_content(phantoms=False))


def test_a_hole_gives_its_reason():
    texts = _texts(study_figure.study_figure(federation_content()))
    assert "failed: the loss was not finite in round 2" in texts
    assert "not run" in texts


@pytest.mark.parametrize("name", CONTENTS)
def test_no_text_leaves_the_figure(name):
    with style.context(["default", canvas._LOOK]):
        figure = canvas._marked(study_figure._forest(CONTENTS[name]), phantoms=True)
        figure.draw_without_rendering()
        shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        extents = [text.get_window_extent() for text in shown]
    assert len(extents) > 10
    assert min(extent.x0 for extent in extents) >= figure.bbox.x0 - 1
    assert max(extent.x1 for extent in extents) <= figure.bbox.x1 + 1
    assert min(extent.y0 for extent in extents) >= figure.bbox.y0 - 1
    assert max(extent.y1 for extent in extents) <= figure.bbox.y1 + 1


def test_missing_metrics_and_a_study_of_holes_are_drawn(tmp_path):
    content = study_content(arms=("centralised",))
    for cell in content["cells"].values():
        for places in cell.get("arms", {}).values():
            places["all"]["auc"] = places["mean"]["auc"] = None
    assert wording.MISSING in _texts(study_figure.study_figure(content))
    content["arms"] = []
    for cell in content["cells"].values():
        cell.pop("arms", None)
        cell |= {"state": "failed", "reason": "the disk is full"}
    study_figure.study_figure_png(content, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width == 2000
    assert study_figure.study_figure(content | {"cells": {}}) == ""
