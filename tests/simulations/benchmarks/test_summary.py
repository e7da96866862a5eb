"""The figures of a benchmark run, and the table, which shows missing figures."""

import io
from typing import Any

from rich.console import Console

from simulations.benchmarks.results import Results
from simulations.benchmarks.table import table

FOUND = {
    "engine": {"engine_over_ceiling": 0.98, "engine_over_plain": 1.5},
    "startup": {"startup_compare_s": 4.9, "startup_first_compare_s": 12.0},
    "loaded": {"loaded_over_fair_share": 1.2, "quiet_over_default": 1.0},
    "federation": {
        "round_s": 10.0, "federation_over_bare": 1.04, "federation_over_steps": 1.2, "federation_startup_s": 16.0,
    },
    "inference": {"inference_over_bare": 1.1, "onnxruntime_over_bare": 1.4},
    "secure": {"secure_site_s": 0.6, "secure_bytes_over_flat": 1.0001, "secure_mask_over_floor": 1.1},
    "rounds": {"memory_slope_mb_per_round": -0.02},
    "deployment": {
        "rows": [{"payload": "flat", "outside_seconds": 2.5}, {"payload": "flat-fp16", "outside_seconds": 1.5}],
        "secure_extra_s": 1.5, "startup_join_s": 4.0, "startup_hub_run_s": 20.0,
    },
    "sites": {
        "rows": [
            {"sites": 3, "round_s": 0.3}, {"sites": 100, "round_s": 7.0},
            {"sites": 1000, "round_s": 70.0, "overhead_ms": 15.0},
        ]
    },
    "images": {"rows": [{"images": 100_000, "open_s": 80.0}]},
    "models": {"rows": [{"model": "ecaresnet269d", "outside_s": 5.0}]},
}  # fmt: skip


def results_of(found: dict[str, dict[str, Any]], quick: bool = False, other: float = 0.0) -> Results:
    runs = {name: {"run": "now", "other_share": other} for name in found}
    return Results(quick, {}, found, runs)


def shown(results: Results, device: str = "cpu") -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table(results, device))
    return console.export_text()


def test_figures_are_those_that_the_parts_measured():
    found = results_of(FOUND).figures
    assert found["engine_over_plain"] == 1.5
    assert found["memory_slope_mb_per_round"] == -0.02


def test_a_figure_of_one_case_is_missing_if_the_part_has_no_such_case():
    found = results_of(FOUND | {"sites": {"rows": [{"sites": 3, "round_s": 0.3}]}}).figures
    assert (found["deployed_outside_flat_s"], found["deployed_outside_half_s"]) == (2.5, 1.5)
    assert found["round_100_sites_s"] is None


def test_the_table_of_make_bench_has_no_figures_of_other_commands():
    own = {"pfl_matched_over_ours", "fluke_over_ours", "nvflare_over_ours", "pfl_over_ours", "plain_flower_over_ours"}
    assert results_of(FOUND | {"peers": dict.fromkeys(own, 2.5)}).figures["nvflare_over_ours"] == 2.5
    assert "FLARE" not in shown(results_of(FOUND))


def test_missing_figures_are_none_and_the_others_are_computed():
    found = results_of({name: FOUND[name] for name in ("engine", "rounds")}).figures
    assert found["engine_over_ceiling"] == 0.98
    assert {key for key, value in found.items() if value is None} == found.keys() - {
        "engine_over_ceiling",
        "engine_over_plain",
        "memory_slope_mb_per_round",
    }


def test_the_table_shows_which_aims_are_reached_and_why_a_figure_is_missing():
    results = results_of({name: each for name, each in FOUND.items() if name != "rounds"})
    results.missing["rounds"] = "no memory"
    text = shown(results)
    ends = {line.split("  ")[1]: line.split()[-1] for line in text.splitlines() if line.rstrip().endswith("ed")}
    verdicts = {
        key: verdict
        for words, verdict in ends.items()
        for key in ("resident", "ImageFolder", "bare", "until")
        if key in words
    }
    assert verdicts == {"resident": "reached", "ImageFolder": "missed", "bare": "reached", "until": "missed"}
    assert "rounds: no memory" in text
    assert text.count("n/a") == 1


def test_only_figures_of_parts_that_were_tried_are_shown():
    results = results_of({"secure": FOUND["secure"]})
    assert "n/a" not in shown(results)
    assert "secure aggregation" in shown(results)
    assert "ImageFolder" not in shown(results)


def test_a_quick_run_is_not_compared_with_the_aims():
    text = shown(results_of(FOUND, quick=True))
    assert "aims apply to a full run" in text
    assert "reached" not in text
    assert "missed" not in text


def test_a_gpu_has_its_own_aims():
    assert "at least 5" in shown(results_of(FOUND), "cuda")
    assert "at least 5" not in shown(results_of(FOUND), "cpu")


def test_a_busy_machine_is_named_below_the_table():
    assert "Other programs used up to 40% of the processors: engine" in shown(results_of(FOUND, other=0.4))
    assert "Other programs" not in shown(results_of(FOUND, other=0.02))
