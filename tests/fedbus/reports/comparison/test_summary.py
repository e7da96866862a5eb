"""The sentences of the summary, against results made for them."""

from fedbus.reports.comparison import summary
from tests.report_sample import sample_results


def _with_difference(low, high):
    results = sample_results()
    results["differences"] = [
        {"arm": "fedprox", "reference": "centralised", "site": "mean", "metric": "auc"}
        | {"value": (low + high) / 2, "low": low, "high": high}
    ]
    return next(sentence for sentence in summary.findings(results) if "(FedProx)" in sentence)


def test_the_finding_gives_both_values_and_the_verdict():
    results = sample_results()
    sentence = _with_difference(-0.04, 0.002)
    for arm in ("fedprox", "centralised"):
        for place in ("mean", "all"):
            auc = results["arms"][arm][place]["auc"]
            assert f"{auc['value']:.3f}"[1:] in sentence
    assert "−.019 (−.040 to .002)" in sentence
    assert "inconclusive, the interval includes 0" in sentence
    assert "lower, the interval excludes 0" in _with_difference(-0.04, -0.01)
    assert "higher, the interval excludes 0" in _with_difference(0.01, 0.04)


def test_between_sites_the_finding_is_that_of_all_test_images():
    results = sample_results()
    for found in results["arms"].values():
        del found["mean"]
    results["differences"] = [row for row in results["differences"] if row["site"] != "mean"]
    sentence = summary.findings(results)[0]
    assert "on all test images; centralised training" in sentence
    assert "mean of" not in sentence


def test_claims_and_the_value_of_knowing_the_hospital_are_said():
    found = summary.findings(sample_results())
    joined = " ".join(found)
    assert "FedAvg is not worse than Centralised by more than .01 AUC, mean of sites: not shown." in joined
    assert "BUSI not shown, −" in joined
    assert found[-1].startswith("Hospital known, image not seen: AUC .721 (.700–.742) on all test images")


def test_a_lost_class_few_groups_and_missing_updates_are_said():
    cautions = " ".join(summary.cautions(sample_results()))
    assert "FedAvg finds fewer images of a class" in cautions
    assert "normal on BUS-UCLM" in cautions
    assert "Centralised finds fewer" not in cautions
    assert "BUS-UCLM has only 11 test groups" in cautions
    assert "FedAvg: in 2 of 12 rounds" in cautions
    assert "FedProx: in" not in cautions


def test_unequal_work_is_said_and_equal_work_is_not():
    results = sample_results()
    assert not any("optimiser steps" in caution for caution in summary.cautions(results))
    results["work"]["fedavg"]["steps"] = 12
    assert any("FedAvg 12" in caution for caution in summary.cautions(results))


def test_one_seed_is_a_caution_and_several_are_not():
    assert any("trained once" in caution for caution in summary.cautions(sample_results(seeds=1)))
    assert not any("trained once" in caution for caution in summary.cautions(sample_results(seeds=3)))


def test_without_a_federated_arm_the_summary_says_so():
    results = sample_results()
    results["arms"] = {arm: found for arm, found in results["arms"].items() if not arm.startswith("fed")}
    results["differences"] = []
    assert summary.findings(results)[0] == "No federated arm was run."
