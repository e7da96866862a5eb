"""Rows and blocks of a study: every cell is in one, and arms that replace each other share one."""

from fedbus.reports.study import rows
from tests.study_report_sample import SKILL, federation_content, leakage_content, study_content


def _cells(block):
    return [row.cell for row in block.rows]


def test_each_arm_has_a_block_with_all_cells_in_the_order_of_the_file():
    content = study_content(arms=tuple(SKILL))
    found = rows.blocks(content)
    assert [block.place for block in found] == ["BUSI", "BUS-UCLM", "BUS-BRA", "all", "all", "all"]
    assert all(_cells(block) == list(content["cells"]) for block in found)
    first = found[0].rows[1]
    assert first.metrics == content["cells"]["none"]["arms"]["local-BUSI"]["BUSI"]
    paired = content["cells"]["none"]["differences"]["local-BUSI"]["BUSI"]["auc"]
    assert first.difference("auc", "BUSI") == paired


def test_federated_arms_of_different_cells_share_a_block():
    *alone, federated = rows.blocks(federation_content())
    assert [_cells(block) for block in alone] == [["references"]] * 4
    assert _cells(federated) == ["mask", "plain", "fedprox-1", "fedadam", "sgd"]
    assert [row.note for row in federated.rows] == ["the default", "", "FedProx", "", ""]
    assert [row.hole for row in federated.rows[3:]] == ["failed: the loss was not finite in round 2", "not run"]
    assert federated.default.cell == "mask"
    assert all(block.default is None for block in alone)


def test_unfinished_cells_are_in_a_block_too():
    content = federation_content()
    content["arms"], content["sites"], content["classes"] = [], {}, []
    for cell in content["cells"].values():
        cell.pop("arms", None)
        cell["state"] = "failed"
    (only,) = rows.blocks(content)
    assert _cells(only) == list(content["cells"])
    assert all(row.hole.startswith("failed") for row in only.rows)


def test_best_is_by_validation_then_loss_and_never_of_a_leaky_split():
    content = study_content(arms=("centralised",))
    assert rows.blocks(content)[0].best.cell == "adasyn"
    for name, loss in (("rus", 0.3), ("smote", 0.2)):
        content["cells"][name]["validation"]["centralised"] |= {"macro_f1": 0.99, "loss": loss}
    assert rows.blocks(content)[0].best.cell == "smote"
    (leaky,) = rows.blocks(leakage_content())
    assert [row.leaky for row in leaky.rows] == [False, True, True]
    assert leaky.best is None


def test_a_metric_that_is_not_defined_gives_no_difference():
    content = study_content(arms=("centralised",))
    content["cells"]["rus"]["differences"]["centralised"]["all"]["auc"] = None
    row = rows.blocks(content)[0].rows[3]
    assert row.cell == "rus"
    assert row.difference("auc", "all") is None
    assert row.difference("macro_f1", "all")["value"] == -0.02
