"""The tables of a study as GitHub markdown for a document: figures, differences and claims by cell and arm."""

from collections.abc import Iterator, Sequence
from typing import Any

from fedbus.evaluation.claims import MARGIN
from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.reports.membership import LEVEL_NAMES, reading
from fedbus.reports.study.privacy import epsilon_label, privacy_level, privacy_rows

DIFFERENCES = (("auc", MEAN), ("auc", ALL), ("macro_f1", ALL), ("accuracy", ALL))
"""Metric and test set of the columns of paired differences, the primary figure first."""


def markdown_study(content: dict[str, Any]) -> str:
    """Write a study's tables, ending in a newline, with all names escaped; tables without rows are left out.

    Args:
        content: Content of `study.json`.
    """
    folds = ", ".join(str(fold) for fold in content.get("tested_folds", [])) or "not recorded"
    parts = [f"## {wording.markdown_cell(content['title'])}"]
    parts += [f"**{wording.PHANTOMS}**"] if content["phantoms"] else []
    parts += [f"Study `{content['study']}`, tested on folds: {folds}. {wording.site_known_note(content)}".rstrip()]
    parts += _table("Figures with 95 % intervals:", _figure_headings(content), _figure_rows(content))
    headings = ["cell", "arm", *(f"{_column(metric, place)} minus default" for metric, place in DIFFERENCES)]
    parts += _table(f"Paired differences to `{content['default']}`:", headings, _default_rows(content))
    headings = ["cell", "arm", "minus", *(_column(metric, place) for metric, place in DIFFERENCES)]
    parts += _table(f"Paired differences to arms of `{content['references']}`:", headings, _gap_rows(content))
    margin = wording.number(MARGIN).rstrip("0")
    headings = ["cell", "arm", f"not worse than centralised by more than {margin}, mean of sites"]
    headings += [f"{wording.site_label(site)} against own model" for site in (MEAN, *content["sites"])]
    parts += _table("Claims, from paired intervals of the AUC:", headings, _claim_rows(content))
    parts += _table("What the models give away, mean of sites:", _privacy_headings(content), _privacy_rows(content))
    return "\n\n".join(parts) + "\n"


def _table(title: str, headings: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    """Write a title and a table; nothing without rows."""
    lines = [[wording.markdown_cell(cell) for cell in row] for row in rows]
    if not lines:
        return []
    above = [[wording.markdown_cell(heading) for heading in headings], ["---"] * len(headings)]
    return [title, "\n".join("| " + " | ".join(line) + " |" for line in [*above, *lines])]


def _column(metric: str, place: str) -> str:
    return f"{wording.METRICS[metric]}, {'all' if place == ALL else wording.site_label(place)}"


def _figure_columns(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [*DIFFERENCES, *(("auc", site) for site in content["sites"])]


def _figure_headings(content: dict[str, Any]) -> list[str]:
    return ["cell", "arm", *(_column(metric, place) for metric, place in _figure_columns(content)), "validation F1"]


def _figure_rows(content: dict[str, Any]) -> Iterator[list[str]]:
    for name, cell in content["cells"].items():
        if cell["state"] != "finished":
            yield [name, cell["state"], *[""] * (len(_figure_columns(content)) + 1)]
        for arm, places in (cell.get("arms") or {}).items():
            figures = [(places.get(place) or {}).get(metric) for metric, place in _figure_columns(content)]
            validation = ((cell.get("validation") or {}).get(arm) or {}).get("macro_f1")
            shown = [wording.with_interval(figure) for figure in figures]
            yield [name, wording.arm_label(arm), *shown, "" if validation is None else wording.number(validation)]


def _default_rows(content: dict[str, Any]) -> Iterator[list[str]]:
    for name, cell in content["cells"].items():
        for arm, places in (cell.get("differences") or {}).items():
            yield [name, wording.arm_label(arm), *_differences(places)]


def _gap_rows(content: dict[str, Any]) -> Iterator[list[str]]:
    for name, cell in content["cells"].items():
        for arm, references in (cell.get("gap") or {}).items():
            for reference in (key for key in references if wording.home(key) is None):
                shown = _differences(references[reference])
                yield [name, wording.arm_label(arm), wording.arm_label(reference), *shown]


def _differences(places: dict[str, Any]) -> list[str]:
    return [wording.with_interval((places.get(place) or {}).get(metric), signed=True) for metric, place in DIFFERENCES]


def _claim_rows(content: dict[str, Any]) -> Iterator[list[str]]:
    for name, cell in content["cells"].items():
        for arm, claims in (cell.get("claims") or {}).items():
            against = "; ".join(
                f"{wording.arm_label(reference)}: {_claim(found)}" for reference, found in claims["not_worse"].items()
            )
            sites = [_claim(claims["sites"].get(site)) for site in (MEAN, *content["sites"])]
            yield [name, wording.arm_label(arm), against, *sites]


def _claim(found: dict[str, Any] | None) -> str:
    return f"{found['verdict']}, {wording.with_interval(found, signed=True)}" if found else ""


def _privacy_headings(content: dict[str, Any]) -> list[str]:
    return ["cell", "arm", "epsilon", "AUC", "attack AUC", f"TPR at {LEVEL_NAMES[privacy_level(content)]}", "reading"]


def _privacy_rows(content: dict[str, Any]) -> Iterator[list[str]]:
    for row in privacy_rows(content):
        figures = (wording.with_interval(row[key]) for key in ("auc", "attack", "tpr"))
        arm, epsilon = wording.arm_label(row["arm"]), epsilon_label(row["epsilon"])
        yield [row["cell"], arm, epsilon, *figures, reading(row["attack"])]
