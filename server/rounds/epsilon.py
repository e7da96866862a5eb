"""What the sites report of their budgets of differential privacy, as the hub checks and records it."""

from collections.abc import Mapping
from typing import Any

from fedbus.settings.schema import Settings
from fedbus.transport.report import Report

MARGIN = 1e-6
"""Relative error of an epsilon that two machines compute from the same numbers."""


def epsilon_fault(report: Report, settings: Settings) -> str | None:
    """Return why a site's training report does not agree with the settings' budget, or None if it does.

    Args:
        report: The report of a training round.
        settings: The settings.
    """
    if not settings.dp_epsilon:
        return None
    if report.epsilon is None:
        return "it reports no epsilon, so it trained without differential privacy"
    if report.epsilon > settings.dp_epsilon * (1 + MARGIN):
        return f"it has spent an epsilon of {report.epsilon:g}, more than dp-epsilon = {settings.dp_epsilon:g}"
    return None


def epsilon_line(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return what the history of a round says about the budgets: by site, the epsilon spent so far."""
    spent = {site: report.epsilon for site, report in reports.items() if report.epsilon is not None}
    return {"epsilon": spent} if spent else {}
