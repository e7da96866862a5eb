"""What reports say of differential privacy."""

from fedbus.reports.comparison.page import render_report
from fedbus.reports.differential_privacy import epsilon_rows, privacy_sentences
from tests.report_sample import sample_results

SETTINGS = {"dp-epsilon": 8, "dp-delta": 1e-5, "dp-clip": 1.0}
SPENT = {"local-BUSI": {"BUSI": 3.0}, "centralised": {"pooled": 7.0}, "fedavg": {"BUSI": 5.0, "BUS-BRA": 6.0}}


def private_results() -> dict:
    results = sample_results()
    work = {arm: {"steps": 1, "seconds": 1.0, "best_round": 1, "epsilon": spent} for arm, spent in SPENT.items()}
    return results | {"settings": results["settings"] | SETTINGS, "work": work}


def history(*epsilons: float) -> list[dict]:
    return [{"round": 0}, *({"round": n, "epsilon": {"BUSI": e}} for n, e in enumerate(epsilons, 1))]


def test_the_table_has_every_arm_and_site_by_the_end_of_three_rounds():
    rows = epsilon_rows(private_results(), {"fedavg": history(1.0, 2.0, 3.0, 5.0)})
    found = {(row["label"], row["owner"]): (row["first"], row["half"], row["last"]) for row in rows}
    assert found == {
        ("BUSI alone", "BUSI"): ("n/a", "n/a", "3.00"),
        ("Centralised", "all sites, pooled"): ("n/a", "n/a", "7.00"),
        ("FedAvg", "BUSI"): ("1.00", "2.00", "5.00"),
        ("FedAvg", "BUS-BRA"): ("n/a", "n/a", "6.00"),
    }


def test_a_blended_arm_spends_what_both_of_its_models_spend():
    results = private_results()
    results["arms"] |= {"fedavg-blended": results["arms"]["fedavg"], "centralised-blended": results["arms"]["fedavg"]}
    last = {(row["label"], row["owner"]): row["last"] for row in epsilon_rows(results, {})}
    assert last["FedAvg, blended", "BUSI"] == "8.00"
    assert last["Centralised, blended", "BUSI"] == "10.00"


def test_the_page_says_what_is_covered_only_if_something_is():
    page = render_report(private_results(), {}, {})
    assert "(epsilon, delta) = (8, 1e-05)" in page
    assert "Not covered" in page
    assert "Differential privacy" not in render_report(sample_results(), {}, {})
    assert privacy_sentences(sample_results()) == []
