"""The command that prints a study's tables as Markdown."""

import json

import pytest

from fedbus.errors import RunError
from fedbus.evaluation.claims import claims
from fedbus.reports import wording
from fedbus.reports.study.markdown import markdown_study
from simulations.studies.markdown import main, markdown_files
from tests.study_report_sample import federation_content, study_content


def difference(value):
    return {"auc": {"value": value, "low": value - 0.004, "high": value + 0.004}}


def with_gap():
    """A study whose cell `plain` is compared with references."""
    content = federation_content() | {"tested_folds": [0, 1]}
    gap = {
        "centralised": {"mean": difference(-0.002), "all": difference(-0.02)},
        "local": {"mean": difference(0.01)},
        "local-BUSI": {"BUSI": difference(-0.01)},
    }
    content["cells"]["plain"] |= {"gap": {"fedavg": gap}, "claims": {"fedavg": claims(gap)}}
    return content


def rows_of(text, cell):
    return [line for line in text.splitlines() if line.startswith(f"| {cell} |")]


def test_figures_differences_and_claims_are_in_tables():
    content = with_gap()
    text = markdown_study(content)
    figures, to_default, centralised, own, claimed = rows_of(text, "plain")
    found = content["cells"]["plain"]["arms"]["fedavg"]
    for place in ("mean", "all", *content["sites"]):
        assert wording.with_interval(found[place]["auc"]) in figures
    paired = content["cells"]["plain"]["differences"]["fedavg"]["mean"]["auc"]
    assert wording.with_interval(paired, signed=True) in to_default
    assert "| Centralised | −.002 (−.006 to .002) | −.020 (−.024 to −.016) | n/a | n/a |" in centralised
    assert "| Each its own model | +.010 (.006–.014) |" in own
    assert "| Centralised: shown, −.002 (−.006 to .002) | gains, +.010 (.006–.014) | loses, −.010" in claimed
    assert "folds: 0, 1. Hospital known, image not seen: AUC .721" in text
    assert rows_of(text, "sgd")[0].startswith("| sgd | not run |")


def test_every_table_has_one_number_of_columns_and_escaped_names():
    content = with_gap()
    content["cells"]["a|b<i>"] = content["cells"].pop("plain")
    for block in markdown_study(content).split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert "a\\|b&lt;i&gt;" in markdown_study(content)
    assert wording.PHANTOMS not in markdown_study(study_content(phantoms=False))


def test_several_files_are_printed_one_after_the_other(tmp_path, capsys):
    paths = [tmp_path / name for name in ("one.json", "two.json")]
    for path, content in zip(paths, (with_gap(), study_content()), strict=True):
        path.write_text(json.dumps(content))
    assert main([str(path) for path in paths]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown_files(paths)
    assert printed.count("\n## ") == 1
    assert printed.startswith("## ")


def test_other_files_are_refused_by_name(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text("{}")
    with pytest.raises(RunError, match=r"results\.json is not of a finished study"):
        markdown_files([path])
    assert main([str(path)]) == 1
    assert "What to do" in capsys.readouterr().err
    assert main([]) == 2
