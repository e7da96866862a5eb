"""What a study says in words follows from its figures."""

from fedbus.reports import wording
from fedbus.reports.study import summary
from tests.study_report_sample import federation_content, leakage_content, study_content


def test_decided_and_inconclusive_differences_are_listed_separately():
    content = study_content(arms=("centralised",))
    ((title, sentences),) = summary.findings(content)
    assert title == "Centralised, all test images"
    beyond = next(sentence for sentence in sentences if "excludes 0" in sentence)
    unclear = next(sentence for sentence in sentences if sentence.startswith("Inconclusive"))
    for name, cell in content["cells"].items():
        found = cell.get("differences", {}).get("centralised", {}).get("all", {})
        apart = {
            metric: wording.verdict(found[metric]) in ("higher", "lower") for metric in ("auc", "macro_f1") if found
        }
        assert (f"{name}:" in beyond) == any(apart.values())
        assert (f" {name}," in unclear or f" {name}." in unclear) == (bool(apart) and not any(apart.values()))
    assert "Best on validation, by which settings are chosen: adasyn, macro F1 .865 (the default .850)." in sentences


def test_no_difference_is_said_so_and_is_not_called_equality():
    content = study_content(arms=("centralised",), failed={})
    content["cells"] = {name: content["cells"][name] for name in ("ros", "smote")}
    ((_, sentences),) = summary.findings(content)
    assert "No cell differs from it beyond chance: smote. That does not show that they equal the default." in sentences


def test_the_number_of_comparisons_is_counted():
    said = " ".join(summary.cautions(study_content()))
    assert "5 cells were compared with the default in 20 intervals at 95 %" in said
    assert "about 1.0 of them would exclude 0 by chance" in said
    assert "Cells without figures: smote-enn." in said
    assert "BUS-UCLM (11)" in said
    assert "trained once" in said


def test_cautions_go_when_their_cause_does():
    said = " ".join(summary.cautions(study_content(failed={}, seeds=3)))
    assert "without figures" not in said
    assert "trained once" not in said
    assert "optimiser steps" not in said


def test_unequal_work_is_named():
    content = study_content(failed={})
    content["cells"]["smote"]["work"]["fedavg"]["steps"] = 999
    said = " ".join(summary.cautions(content))
    assert "smote 999" in said


def test_without_a_default_nothing_is_paired_and_it_is_said():
    found = dict(summary.findings(federation_content()))
    assert "no difference is paired" in found["Centralised, all test images"][0]


def test_claims_are_compared_with_the_truth():
    found = dict(summary.findings(leakage_content()))["Claim and truth"]
    assert len(found) == 2
    assert "A-balanced-images (Centralised) claims macro F1 .950" in found[1]
    assert "+.100 (.070–.130): higher, the interval excludes 0." in found[1]


def test_notes_on_data_are_referred_to_by_number_only():
    content = study_content()
    content["sites"]["BUSI"]["noted"] = 3
    assert any("notes on the data of BUSI (3): the report in the folder" in said for said in summary.cautions(content))
    content["sites"]["BUSI"]["noted"] = 0
    assert not any("notes on the data" in said for said in summary.cautions(content))
