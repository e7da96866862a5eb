"""The figures of a run as tables in Markdown; every cell is a value of `results.json`."""

from typing import Any

from fedbus.cards import facts
from fedbus.cards.markdown import prose, table
from fedbus.cards.result_answers import elsewhere_sentences
from fedbus.cards.run import FinishedRun
from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.reports.comparison.tables import MEAN_NOTE, NOTE

COLUMNS = ("auc", "macro_f1", "accuracy", "ece")


def performance_tables(run: FinishedRun) -> list[str]:
    """Write one table for each test set: arms in rows, metrics with intervals in columns."""
    lines = [prose(NOTE)]
    places = [*wording.scored_sites(run.results), *([MEAN] if wording.primary(run.results) == MEAN else []), ALL]
    for place in places:
        rows = [
            [wording.arm_label(arm), *(wording.with_interval(scores[key]) for key in COLUMNS if key in scores)]
            for arm in wording.ordered_arms(run.results)
            if (scores := wording.scores(run.results, arm, place))
        ]
        if not rows:
            lines += ["", f"### {prose(wording.site_label(place))}", "", "No model was scored here."]
            continue
        width = max(len(row) for row in rows)
        headings = ["Arm", *(wording.METRICS[key] for key in COLUMNS[: width - 1])]
        lines += ["", f"### {_title(run, place)}", "", *table(headings, rows)]
        lines += ["", prose(MEAN_NOTE)] if place == MEAN else []
    note = wording.note_on_auc(run.results)
    totals = wording.TOTALS_ONLY if run.totals_only else ""
    return [*lines, *(line for text in (note, totals) if text for line in ("", prose(text)))]


def _title(run: FinishedRun, place: str) -> str:
    size = f": {wording.size(run.results, place)}" if place != MEAN else ""
    return prose(f"Tested on {wording.site_label(place)}{size}")


def class_tables(run: FinishedRun) -> list[str]:
    """Write sensitivity and specificity of every class, for the arms that all sites share."""
    lines: list[str] = []
    for arm in wording.shared_arms(run.results):
        rows = [
            [f"{wording.site_label(place)}, {label}", *_class_cells(run, arm, place, label)]
            for place in (*run.sites, ALL)
            if wording.scores(run.results, arm, place).get("sensitivity")
            for label in run.results["classes"]
        ]
        if rows:
            headings = ["Tested on, class", "sensitivity", "specificity", "images"]
            lines += ["", f"### {prose(wording.long_arm_label(arm))}", "", *table(headings, rows)]
    return lines[1:]


def _class_cells(run: FinishedRun, arm: str, place: str, label: str) -> list[str]:
    scores = wording.scores(run.results, arm, place)
    shown = [wording.with_interval((scores.get(key) or {}).get(label)) for key in ("sensitivity", "specificity")]
    return [*shown, f"{wording.tested(run.results, place, label):,}"]


def difference_table(run: FinishedRun) -> list[str]:
    """Write the paired differences in AUC of every federated arm; empty if none were computed."""
    rows = [
        [_difference_label(row), wording.with_interval(row, signed=True), wording.verdict(row)]
        for row in run.results.get("differences") or []
        if row["metric"] == "auc"
    ]
    return table(["Difference in AUC", "value", "verdict"], rows) if rows else []


def _difference_label(row: dict[str, Any]) -> str:
    pair = f"{wording.arm_label(row['arm'])} minus {wording.arm_label(row['reference'])}"
    return f"{pair}, {wording.site_label(row['site'])}"


def elsewhere_lines(run: FinishedRun) -> list[str]:
    """Write the figures at sites outside the run."""
    if not run.elsewhere:
        return ["The run folder contains no test of the models at a site outside the run."]
    return [f"- {prose(sentence)}" for sentence in elsewhere_sentences(run)]


def data_tables(run: FinishedRun) -> list[str]:
    """Write the images of each site: sources and totals, then classes by split."""
    totals = [
        [
            site,
            str(each.get("reader", "at the site")),
            f"{each.get('images', 0):,}",
            f"{each['patients']:,}" if each.get("patients") else "not known",
            f"{each.get('groups', 0):,}",
            str(facts.left_out(run, site)),
        ]
        for site, each in run.sites.items()
    ]
    classes = list(run.results["classes"])
    counts = [
        [f"{site}, {split}", *(f"{each['splits'][split].get(label, 0):,}" for label in classes)]
        for site, each in run.sites.items()
        for split in each["splits"]
    ]
    return [
        *table(["Site", "Reader", "Images", "Patients", "Groups", "Left out"], totals, text=2),
        "",
        *table(["Images", *classes], counts),
    ]
