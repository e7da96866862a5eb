"""A study's tables: every figure, every reason, within 100 columns."""

import io

import pytest
from rich.console import Console

from fedbus.reports import wording
from fedbus.reports.study import tables
from tests.study_report_sample import REASON, SKILL, federation_content, leakage_content, study_content


def _printed(content, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(study_table(content))
    return console.file.getvalue()


study_table = tables.study_table


@pytest.mark.parametrize("content", [study_content(), study_content(arms=tuple(SKILL), seeds=3), leakage_content()])
def test_every_figure_is_whole_on_a_line_of_at_most_100_columns(content):
    lines = _printed(content).splitlines()
    assert max(map(len, lines)) <= 100
    for cell in content["cells"].values():
        for arm, found in cell.get("arms", {}).items():
            place = wording.home(arm) or "all"
            shown = [found[place]["macro_f1"], found[place]["auc"]] + ([found["mean"]["auc"]] if place == "all" else [])
            values = [wording.value(figure) for figure in shown]
            bounds = [wording.interval(figure).strip("()") for figure in shown]
            at = [number for number, line in enumerate(lines) if all(value in line for value in values)]
            assert any(all(bound in lines[number + 1] for bound in bounds) for number in at)


def test_differences_have_their_verdict_in_words_and_inconclusive_ones_none():
    lines = _printed(study_content(arms=("centralised",))).splitlines()
    none = next(line for line in lines if line.startswith("none"))
    smote = next(line for line in lines if line.startswith("smote "))
    assert "−.042 lower" in none
    assert "−.070 lower" in none
    assert "+.015" in smote
    assert "higher" not in smote
    assert "+.030 higher" in "\n".join(lines)
    assert sum("reference" in line for line in lines) == 1


def test_a_long_reason_and_a_long_name_lose_no_word():
    name = "a-very-long-name-of-a-cell-that-somebody-typed_with-values_0.001"
    printed = _printed(study_content(arms=("centralised",), failed={name: REASON}))
    assert " ".join(f"{name} failed: {REASON}".split()) in " ".join(printed.split())
    content = study_content(arms=("centralised",))
    content["cells"][name] = content["cells"].pop("rus")
    joined = "".join(line[:21].strip() for line in _printed(content).splitlines())
    assert name in joined


def test_the_note_says_that_settings_are_chosen_by_validation():
    printed = _printed(study_content(arms=("centralised",)))
    assert " ".join(tables.CHOICE.split()) in " ".join(printed.split())
    assert sum(line.rstrip().count(" best ") for line in printed.splitlines()[:-4]) == 1


def test_missing_metrics_are_named():
    content = study_content(arms=("centralised",), failed={})
    for place in ("all", "mean"):
        content["cells"]["rus"]["arms"]["centralised"][place]["auc"] = None
        content["cells"]["rus"]["differences"]["centralised"][place]["auc"] = None
    content["cells"]["rus"]["validation"] = content["cells"]["rus"]["work"] = {}
    line = next(line for line in _printed(content).splitlines() if line.startswith("rus"))
    assert line.count(wording.MISSING) == 5


@pytest.mark.parametrize("phantoms", [True, False])
def test_phantoms_are_named_and_only_then(phantoms):
    content = study_content(phantoms)
    assert (wording.PHANTOMS in _printed(content)) == phantoms
    assert (wording.PHANTOMS in tables.markdown_study_table(content)) == phantoms


def test_markdown_has_a_row_per_cell_and_block_and_is_escaped():
    content = federation_content()
    content["cells"]["fedadam"]["reason"] = "a|b\n<i>"
    lines = [line for line in tables.markdown_study_table(content).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 5 + 4 + 5
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert any("failed: a\\|b &lt;i&gt;" in line for line in lines)
    assert any("−.120 (−.138 to −.102) **lower**" in line for line in lines if line.startswith("| plain"))


def test_rich_markup_in_names_and_reasons_is_text():
    content = study_content(arms=("centralised",), failed={"x": "[red]why[/nonsense]"}) | {"title": "[/bold]"}
    printed = _printed(content)
    assert "[red]why[/nonsense]" in printed
    assert "[/bold]" in printed


def test_the_mean_of_the_sites_is_shown_before_the_auc_and_explained_only_where_it_was_computed():
    content = study_content(arms=("local-BUSI", "centralised"))
    row = next(line for line in tables.markdown_study_table(content).splitlines() if line.startswith("| rus | .860"))
    found = content["cells"]["rus"]["arms"]["centralised"]
    cells = [cell.strip() for cell in row.split("|")][1:]
    assert cells[3:5] == [wording.with_interval(found[place]["auc"]) for place in ("mean", "all")]
    assert "Mean of sites:" in tables.note(content)
    assert "Hospital known, image not seen: AUC .721" in tables.note(content)
    for cell in content["cells"].values():
        for places in cell.get("arms", {}).values():
            del places["mean"]
    assert "Mean of sites:" not in tables.note(content)


def test_with_all_folds_the_note_says_what_is_only_of_the_first():
    assert tables.FIRST_FOLD in tables.note(study_content() | {"folds": 5})
    assert tables.FIRST_FOLD not in tables.note(study_content() | {"folds": 1})
