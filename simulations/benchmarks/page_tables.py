"""The tables of docs/performance.md, as Markdown, from the results of the benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulations.benchmarks.page_figures import Before, figures_table, runs_table, short
from simulations.benchmarks.results import Results


@dataclass(frozen=True)
class Cases:
    """A table with one column per case of a part, and one row per quantity, with its earlier values in brackets.

    Attributes:
        part: The part that measures the cases.
        case: The key of the case's name or size.
        heading: What the cases are.
        quantities: By key, what it is, with its unit; `a.b` is key `b` of the dictionary `a`.
        case_heading: Makes a column's heading from a case.
        cases: The key of the cases in what the part measured.
    """

    part: str
    case: str
    heading: str
    quantities: Mapping[str, str]
    case_heading: Callable[[Mapping[str, Any]], str] | None = None
    cases: str = "rows"

    def __call__(self, results: Results, before: Before) -> str:
        """Make the table from the measured cases, or if there are none, from the earlier ones."""
        measured = results.parts.get(self.part, {}).get(self.cases, [])
        earlier = before.rows.get(self.part, [])
        columns = [self._name(row) for row in measured or earlier]
        if not columns:
            return "Not measured yet."
        now, then = ({self._name(row): row for row in rows} for rows in (measured, earlier))
        lines = [f"| {' | '.join([self.heading, *columns])} |", "|---" * (len(columns) + 1) + "|"]
        for key, words in self.quantities.items():
            cells = [
                _now_and_then(_look_up(now.get(name, {}), key), _look_up(then.get(name, {}), key)) for name in columns
            ]
            if any(cells):
                lines.append(f"| {' | '.join([words, *cells])} |")
        return "\n".join(lines)

    def _name(self, row: Mapping[str, Any]) -> str:
        return self.case_heading(row) if self.case_heading else short(row[self.case])


def _now_and_then(now: float | str | None, then: float | str | None) -> str:
    """Write a measured value, and the earlier one in brackets."""
    if then is None or now == then:
        return short(now)
    return f"{short(now) or '?'} ({short(then)})"


def _look_up(row: Mapping[str, Any], key: str) -> Any:
    found: Any = row
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _session(row: Mapping[str, Any]) -> str:
    return f"{row['sites']} sites" + (f", {row['lost']} lost before they sent" if row["lost"] else "")


def _workers(row: Mapping[str, Any]) -> str:
    workers = row.get("workers", 1)
    return short(row["sites"]) + (f", {workers} workers" if workers > 1 else "")


def _megabytes(row: Mapping[str, Any]) -> str:
    return f"{row['model_mb']:.0f}"


def _framework(row: Mapping[str, Any]) -> str:
    return str(row["name"])


TABLES: Mapping[str, Callable[[Results, Before], str]] = {
    "figures": figures_table,
    "runs": runs_table,
    "deployment": Cases(
        "deployment",
        "payload",
        "`payload`",
        {
            "arrays": "arrays",
            "megabytes": "MB received, and sent, per site and round",
            "round_seconds": "round, s",
            "work_seconds": "work at the slowest site, s",
            "outside_seconds": "outside it, s",
            "serverapp_cpu_seconds": "processor time per round of the run's process, s",
            "superlink_cpu_seconds": "of the SuperLink, s",
            "gateway_cpu_seconds": "of the gateway, s",
            "supernodes_cpu_seconds": "of three SuperNodes, s",
            "workers_cpu_seconds": "of three workers, training included, s",
            "superlink_megabytes": "memory of the SuperLink, MB",
            "gateway_megabytes": "of the gateway, MB",
            "serverapp_megabytes": "of the run's process, MB",
        },
    ),
    "sites": Cases(
        "sites",
        "sites",
        "sites",
        {
            "round_s": "seconds per round",
            "work_s_per_site": "a site's own work, s",
            "overhead_ms": "besides it per site and round, ms of one processor",
            "peak_mb": "peak memory of all processes, MB",
        },
        _workers,
    ),
    "peers": Cases(
        "peers",
        "name",
        "the same federation",
        {
            "version": "version",
            "round_s": "seconds per round",
            "peak_mb": "peak memory of all processes, MB",
            "start_s": "seconds from the start to the first round",
            "accuracy": "accuracy on the test rows",
            "accuracy_low": "its 95 % interval, from",
            "accuracy_high": "to",
            "largest_weight_difference": "largest difference of a weight to ours",
        },
        _framework,
    ),
    "models": Cases(
        "models", "model_mb", "model, MB", {"outside_s": "seconds per round outside the sites' work"}, _megabytes
    ),
    "images": Cases(
        "images",
        "images",
        "images of 48 px",
        {
            "open_s": "prepare a site: decode, hash, groups, split, s",
            "near_pairs_s": "search for near-duplicates, s",
            "open_peak_mb": "peak of its own memory while preparing, MB",
            "epoch_s": "data path of one epoch, s",
            "epoch_peak_mb": "peak of its own memory in that epoch, MB",
            "map_mb": "memory-mapped pixels, MB",
        },
    ),
    "loaded": Cases(
        "loaded",
        "threads",
        "threads of a step",
        {
            "quiet_s": "quiet, s",
            "quiet_default_s": "quiet, OpenMP's default, s",
            "loaded_s": "beside two busy loops, s",
            "loaded_default_s": "beside two busy loops, OpenMP's default, s",
            "loaded_over_fair_share": "loaded over fair share",
            "loaded_default_over_fair_share": "loaded over fair share, OpenMP's default",
        },
    ),
    "secure": Cases(
        "secure",
        "sites",
        "per round",
        {
            "site_seconds": "a site, all steps, s",
            "seconds.masking:check model": "of which SHA-256 of the received model, s",
            "seconds.masking:encode": "of which fixed point, s",
            "seconds.masking:mask": "of which masks, s",
            "seconds.plain site:pack": "a site's packing without secure aggregation, s",
            "mask_over_floor": "masks over their floor",
            "hub_seconds": "the hub, all steps, s",
            "seconds.hub:unmask": "of which removing the masks, s",
        },
        _session,
    ),
    "gpu": Cases(
        "gpu",
        "model",
        "model, images per batch",
        {
            "ours_images_per_s": "our loop, images/s",
            "ceiling_images_per_s": "its ceiling, images/s",
            "timm_images_per_s": "timm's plain step, images/s",
            "ours_with_graphs_images_per_s": "our loop with CUDA graphs, images/s",
            "ceiling_with_graphs_images_per_s": "its ceiling with CUDA graphs, images/s",
            "engine_over_ceiling": "our loop over its ceiling",
            "engine_over_timm": "our loop over timm's plain step",
            "graphs_over_ceiling": "the first ratio with CUDA graphs",
            "graphs_over_engine": "our loop with CUDA graphs over without",
            "peak_mb": "peak memory, MB",
            "peak_with_graphs_mb": "peak memory with CUDA graphs, MB",
        },
        lambda row: f"`{row['model']}`, {row['batch_size']}",
    ),
    "gpu-workers": Cases(
        "gpu",
        "workers",
        "worker processes",
        {
            "round_s": "seconds per round of three sites",
            "over_bare": "over the bare loop in one process",
            "startup_s": "seconds until the first round could start",
        },
        cases="workers",
    ),
}
"""All tables, by the names that the page marks them with."""
