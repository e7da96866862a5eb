"""The figures of docs/performance.md from what the stages measured."""

from collections.abc import Mapping
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]
"""What each stage measured, by name."""


def headline(stages: Stages) -> dict[str, Any]:
    """Compute the figures, None where a stage is missing, and gather the cases of the page's tables.

    The figures of a model are those of the first case that was measured. Where CUDA graphs change no result and are
    faster, they are what a user would choose, so the figures are those with graphs.
    """
    rows = [*stages.get("speed", {}).get("rows", []), *stages.get("models", {}).get("rows", [])]
    first = rows[0] if rows else {}
    workers = stages.get("flower", {}).get("workers")
    by_workers = stages.get("flower", {}).get("rows", [])
    comparison = stages.get("comparison", {})
    done = comparison.get("left") == []
    return {
        "gpu_images_per_s": max((_fastest(row) for row in rows if row["model"] == first["model"]), default=None),
        "gpu_engine_over_ceiling": first.get("engine_over_ceiling"),
        "gpu_engine_over_timm": _best(first, "graphs_over_timm", "engine_over_timm"),
        "gpu_graphs_over_engine": first.get("graphs_over_engine"),
        "gpu_graphs_over_ceiling": first.get("graphs_over_ceiling"),
        "gpu_compiled_over_ceiling": stages.get("compile", {}).get("compiled_over_ceiling"),
        "gpu_engine_over_plain": stages.get("plain", {}).get("engine_over_plain"),
        "gpu_workers": workers,
        "gpu_federation_over_bare": next((row["over_bare"] for row in by_workers if row["workers"] == workers), None),
        "gpu_comparison_s": comparison["training_s"] if done else None,
        "gpu_comparison_peak_mb": comparison["peak_mb"] if done else None,
        "rows": rows,
        "workers": by_workers,
    }


def _fastest(row: Mapping[str, Any]) -> float:
    return float(max(row["ours_images_per_s"], row.get("ours_with_graphs_images_per_s", 0.0)))


def _best(row: Mapping[str, Any], *keys: str) -> float | None:
    return max((row[key] for key in keys if key in row), default=None)
