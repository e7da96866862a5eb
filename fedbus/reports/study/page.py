"""The report of a study: one HTML file that opens anywhere, offline; beside it the figure and the table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedbus.reports import wording
from fedbus.reports.study import summary
from fedbus.reports.study import tables as study_tables
from fedbus.reports.study.figure import study_figure, study_figure_png
from fedbus.reports.study.rows import arm_label, blocks
from fedbus.system.files import write_text

HERE = Path(__file__).parent
SHARED = HERE.parent

REPORT_FILE, FIGURE_FILE, TABLE_FILE = "report.html", "figure.png", "table.md"


def write_study(content: dict[str, Any], extras: Mapping[str, Markup], out: Path) -> Path:
    """Write `report.html`, `figure.png` and `table.md`, each whole or not at all.

    Args:
        content: of `study.json`.
        extras: further sections, heading to HTML fragment; may be empty.
        out: the study's folder.

    Returns:
        The path of the report.

    Raises:
        RunError: the disk is full or the folder can't be written.
    """
    write_text(out / REPORT_FILE, render_study(content, extras))
    study_figure_png(content, out / FIGURE_FILE)
    write_text(out / TABLE_FILE, study_tables.markdown_study_table(content))
    return out / REPORT_FILE


def render_study(content: dict[str, Any], extras: Mapping[str, Markup]) -> str:
    """Build the page's HTML; arguments as `write_study`. Equal arguments give equal text.

    All text of the content is escaped; the fragments of `extras` are taken as they are.
    """
    environment = Environment(
        loader=FileSystemLoader([HERE, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": _plain, "duration": wording.duration}
    return environment.get_template("page.html").render(
        results=content,
        words=wording,
        tables=study_tables,
        arm_label=arm_label,
        blocks=blocks(content),
        findings=summary.findings(content),
        cautions=summary.cautions(content),
        leaks=summary.leaks_of(content),
        extras=extras,
        figures={"study": Markup(study_figure(content))},
        style=Markup((SHARED / "style.css").read_text(encoding="utf-8")),
    )


def _plain(value: object) -> str:
    """Write a setting as a reader would type it: text bare, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
