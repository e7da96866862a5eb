"""The gap to centralised training: its differences, in the terminal and on the page."""

import io

from rich.console import Console

from fedbus.evaluation.claims import claims
from fedbus.reports.study.gap import gap_fragment, gap_rows, gap_table, row_label


def difference(value, half=0.01):
    return {"value": value, "low": value - half, "high": value + half}


def gap_content():
    """A made-up study: one cell below centralised training, one without references, one that failed."""
    gap = {
        "fedavg": {
            "centralised": {
                "mean": {"auc": difference(0.012)},
                "all": {"auc": difference(-0.05), "macro_f1": difference(-0.004)},
                "north": {"auc": None},
            },
            "local-north": {"north": {"auc": difference(0.031)}},
            "local-<b>": {"<b>": {"auc": None}},
        }
    }
    cells = {
        "mask": {
            "gap": gap,
            "claims": {"fedavg": claims(gap["fedavg"])},
            "validation": {"fedavg": {"macro_f1": 0.701}},
        },
        "references": {"arms": {}},
        "broken": {"state": "failed"},
    }
    return {"phantoms": True, "sites": {"north": {}, "<b>": {}}, "cells": cells}


def test_each_federated_arm_of_a_cell_is_one_row_with_its_differences():
    (row,) = gap_rows(gap_content())
    assert (row["cell"], row["arm"], row["validation"]) == ("mask", "fedavg", 0.701)
    assert row["pooled"]["auc"]["value"] == -0.05
    assert row["own"]["north"]["value"] == 0.031
    assert row["own"]["<b>"] is None
    assert (row["mean"]["auc"]["value"], row["not_worse"]) == (0.012, "shown")


def test_a_blended_arm_is_compared_with_both_centralised_arms():
    content = gap_content()
    content["cells"]["mask"]["gap"] = {
        "fedavg-blended": {name: {"all": {"auc": difference(0.1)}} for name in ("centralised", "centralised-blended")}
    }
    found = [row_label(row) for row in gap_rows(content)]
    assert found == ["mask (FedAvg, blended)", "mask (FedAvg, blended against Centralised, blended)"]


def test_the_terminal_shows_the_differences_and_says_phantoms():
    out = io.StringIO()
    Console(file=out, width=140).print(gap_table(gap_content()))
    text = out.getvalue()
    assert all(
        words in text for words in ("PHANTOMS", "−.050", "+.012", "shown", "+.031 (.021–.041) gains", "n/a", ".701")
    )


def test_the_page_says_in_words_what_excludes_0_and_escapes_names():
    page = str(gap_fragment(gap_content()))
    assert "<b>−.050</b> <small>(−.060 to −.040) lower</small>" in page
    assert "<b>+.031</b> <small>(.021–.041) higher</small>" in page
    assert "−.004 <small>" in page  # inconclusive: not in bold
    assert "&lt;b&gt;" in page
    assert "AUC at <b>" not in page
    assert "PHANTOMS" in page


def test_a_study_without_references_has_no_rows():
    assert gap_rows({"cells": {"a": {}, "b": {"gap": None}}}) == []
