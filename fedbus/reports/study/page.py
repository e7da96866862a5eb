"""The report of a study: one HTML file that opens anywhere, offline, with its figure and its table beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedbus.reports.study import summary
from fedbus.reports.study import tables as study_tables
from fedbus.reports.study.rows import arm_label, blocks
from fedbus.reports.templates import render
from fedbus.system.files import write_text

REPORT_FILE, FIGURE_FILE, TABLE_FILE = "report.html", "figure.png", "table.md"


def write_study(content: dict[str, Any], extras: Mapping[str, Markup], out: Path) -> Path:
    """Write `report.html`, `figure.png` and `table.md`, each complete or not at all.

    Args:
        content: Content of `study.json`.
        extras: Further sections, heading to HTML fragment; may be empty.
        out: The study's folder.

    Returns:
        The path of the report.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    from fedbus.reports.study.figure import study_figure_png  # loads matplotlib, which only a report needs

    write_text(out / REPORT_FILE, render_study(content, extras))
    study_figure_png(content, out / FIGURE_FILE)
    write_text(out / TABLE_FILE, study_tables.markdown_study_table(content))
    return out / REPORT_FILE


def render_study(content: dict[str, Any], extras: Mapping[str, Markup]) -> str:
    """Render the page; arguments as `write_study`. Equal arguments give equal text.

    All text of the content is escaped; the fragments of `extras` are inserted unchanged.
    """
    from fedbus.reports.study.figure import study_figure  # loads matplotlib, which only a report needs

    return render(
        "study/page.html",
        results=content,
        tables=study_tables,
        arm_label=arm_label,
        blocks=blocks(content),
        findings=summary.findings(content),
        cautions=summary.cautions(content),
        leaks=summary.leaks_of(content),
        extras=extras,
        figures={"study": Markup(study_figure(content))},
    )
