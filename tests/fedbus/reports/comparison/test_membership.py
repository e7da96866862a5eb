"""The membership audit on the page of a comparison and on a model card."""

import re
from types import SimpleNamespace

import pytest

from fedbus.cards.membership import membership_lines
from fedbus.reports import wording
from fedbus.reports.comparison.page import render_report
from fedbus.reports.membership import LIMITS, membership_sentences, notes, shown_level
from tests.audited import sample_membership
from tests.html_reader import HtmlReader
from tests.report_sample import sample_results


@pytest.fixture(scope="module")
def section() -> str:
    page = render_report(sample_results() | {"membership": sample_membership()}, {}, {})
    found = re.search(r'<section aria-labelledby="membership">.*?</section>', page, flags=re.DOTALL)
    assert found
    assert 'href="#membership"' in page
    return found.group()


def test_the_page_has_every_figure_with_its_interval_and_reading(section):
    for arm, places in sample_membership()["arms"].items():
        assert wording.arm_label(arm) in section
        for figures in places.values():
            for name in ("auc", "tpr_at_1"):
                assert f"<b>{wording.value(figures[name])}</b> <small>{wording.interval(figures[name])}" in section
    assert section.count("recognises patients") == 2
    assert section.count("cannot tell<") == 1
    assert "130 test groups" in section
    assert section.count(wording.PHANTOMS) >= 3, "heading, table and figure"


def test_the_page_says_what_was_not_attacked_and_what_is_not_proved(section):
    assert "BUS-UCLM was not attacked: 7 test groups; 10 are needed." in section
    assert "BUS-BRA: normal images were left out" in section
    assert LIMITS in section


def test_sentences_give_the_share_of_pairs():
    found = membership_sentences({"membership": sample_membership()})
    assert found[0].startswith("Each its own model: the attack names the training patient in 81 % of pairs (78–84 %)")
    assert found[0].endswith("the model gives away who took part.")
    assert found[2].endswith("it cannot tell them apart.")


def test_true_positive_rates_are_shown_at_one_level_at_all_sites():
    arms = sample_membership()["arms"]
    assert shown_level(arms) == "tpr_at_1"
    arms["fedavg"]["BUSI"]["tpr_at_1"] = None
    assert shown_level(arms) == "tpr_at_5"
    arms["fedavg"]["BUSI"]["tpr_at_5"] = None
    membership = sample_membership() | {"arms": arms}
    assert "BUSI has too few test groups for a true-positive rate; its mean is over the other sites." in notes(
        membership
    )


def test_an_audit_without_figures_shows_its_reason_only():
    empty = {"reason": "The split leaks on purpose.", "sites": {}, "arms": {}}
    page = render_report(sample_results() | {"membership": empty}, {}, {})
    assert "The split leaks on purpose." in page
    assert 'aria-label="Membership audit"' not in page
    assert not HtmlReader(page).open


def test_the_model_card_repeats_the_sentences_and_the_limits():
    lines = membership_lines(SimpleNamespace(results={"membership": sample_membership()}))
    for sentence in membership_sentences({"membership": sample_membership()}):
        assert f"- {sentence}" in lines
    assert lines[-1] == LIMITS
    assert membership_lines(SimpleNamespace(results={})) == [
        "Whether the models give away their training patients was not measured."
    ]
