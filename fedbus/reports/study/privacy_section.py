"""The section of a study's page on what its models give away about patients: figure and table."""

from typing import Any

from markupsafe import Markup

from fedbus.reports import membership as audit
from fedbus.reports.study.privacy import bound, epsilon_label, privacy_level, privacy_rows, varies_epsilon
from fedbus.reports.study.privacy_figure import privacy_figure
from fedbus.reports.templates import render_fragment

HEADING = "What the models give away about patients"


def privacy_fragment(content: dict[str, Any]) -> Markup:
    """Lay out figure and table for the page, with all text escaped."""
    drawn = ""
    if varies_epsilon(content):
        drawn = privacy_figure(content)
    return render_fragment(
        "study/privacy.html",
        results=content,
        rows=privacy_rows(content),
        level=audit.LEVEL_NAMES[privacy_level(content)],
        audit=audit,
        epsilon_label=epsilon_label,
        bound=bound,
        figures={"privacy": Markup(drawn)},
    )
