"""A study's table and figure of what its models give away, by epsilon."""

import numpy as np
import pytest

from fedbus.reports.study.markdown import markdown_study
from fedbus.reports.study.privacy import bound, epsilon_label, privacy_rows, varies_epsilon
from fedbus.reports.study.privacy_figure import privacy_figure, privacy_figure_png
from fedbus.reports.study.privacy_section import privacy_fragment
from tests.audited import figure, sample_membership
from tests.study_report_sample import study_content


@pytest.fixture(scope="module")
def content() -> dict:
    """A made-up study of two budgets and none."""
    found = study_content()
    names = list(found["cells"])[:3]
    found["cells"] = {name: found["cells"][name] for name in names}
    for name, epsilon in zip(names, (None, 8, 1), strict=True):
        cell = found["cells"][name]
        cell["settings"] = {} if epsilon is None else {"dp-epsilon": epsilon}
        cell["membership"] = sample_membership()
    return found


def test_each_audited_arm_of_a_cell_is_a_row_with_its_epsilon(content):
    rows = privacy_rows(content)
    assert [row["epsilon"] for row in rows] == [0, 0, 0, 8, 8, 8, 1, 1, 1]
    centralised = next(row for row in rows if row["arm"] == "centralised")
    assert centralised["auc"] == content["cells"]["ros"]["arms"]["centralised"]["mean"]["auc"]
    assert centralised["attack"] == figure(0.62)
    assert varies_epsilon(content)
    assert not varies_epsilon(study_content())
    assert [epsilon_label(epsilon) for epsilon in (0, 8, 0.5)] == ["none", "8", "0.5"]


@pytest.mark.parametrize("epsilon", [0.1, 1, 3, 8])
def test_the_bound_is_the_area_below_the_steepest_curve_that_epsilon_allows(epsilon):
    wrong = np.linspace(0, 1, 2_000_001)
    right = np.minimum(np.minimum(1, np.exp(epsilon) * wrong), 1 - np.exp(-epsilon) * (1 - wrong))
    assert bound(epsilon) == pytest.approx(np.trapezoid(right, wrong), abs=1e-6)
    assert bound(0) == 1


def test_page_figure_and_markdown_have_the_figures(content, tmp_path):
    fragment = str(privacy_fragment(content))
    for text in ("recognises patients", "cannot tell", ".731", "<svg", "PHANTOMS", "BUS-UCLM was not attacked"):
        assert text in fragment
    assert privacy_figure(content) == privacy_figure(content)
    privacy_figure_png(content, tmp_path / "privacy.png")
    assert (tmp_path / "privacy.png").read_bytes().startswith(b"\x89PNG")
    table = markdown_study(content)
    assert "| cell | arm | epsilon | AUC | attack AUC | TPR at 1 % | reading |" in table
    assert table.count("recognises patients") == 6
    assert "attack AUC" not in markdown_study(study_content())
