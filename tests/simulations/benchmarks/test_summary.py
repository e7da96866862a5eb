"""The figures of a benchmark run, and the table, which shows missing figures."""

import io

import pytest
from rich.console import Console

from simulations.benchmarks.summary import figures, table

FOUND = {
    "engine": {"engine_over_ceiling": 0.98, "engine_over_plain": 1.5},
    "federation": {
        "round_s": 10.0, "federation_over_bare": 1.04, "federation_over_steps": 1.2, "federation_startup_s": 16.0,
    },
    "plain_flower": {"round_seconds": [90.0, 60.0, 50.0, 40.0]},
    "peer": {"plain": {"round_seconds": [90.0, 30.0]}, "matched": {"round_seconds": [90.0, 12.0]}},
    "inference": {"inference_over_bare": 1.1, "onnxruntime_over_bare": 1.4},
    "secure": {"secure_site_s": 0.6, "secure_bytes_over_flat": 1.0001, "secure_mask_over_floor": 1.1},
    "rounds": {"memory_slope_mb_per_round": -0.02},
}  # fmt: skip


def shown(result: dict[str, object], device: str = "cpu") -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table(result, device))
    return console.export_text()


def test_other_simulators_are_compared_with_our_round_without_their_first():
    found = figures(FOUND)
    assert found["plain_flower_over_ours"] == pytest.approx(5.0)
    assert (found["pfl_over_ours"], found["pfl_matched_over_ours"]) == pytest.approx((3.0, 1.2))
    assert found["engine_over_plain"] == 1.5
    assert found["memory_slope_mb_per_round"] == -0.02


def test_missing_figures_are_none_and_the_others_are_computed():
    found = figures({name: FOUND[name] for name in ("engine", "peer")})
    assert found["engine_over_ceiling"] == 0.98
    assert {key for key, value in found.items() if value is None} == found.keys() - {
        "engine_over_ceiling",
        "engine_over_plain",
    }


def test_the_table_shows_which_aims_are_reached_and_why_a_figure_is_missing():
    found = figures({name: each for name, each in FOUND.items() if name != "peer"})
    text = shown(found | {"missing": {"peer": "no network"}, "quick": False})
    ends = {line.split("  ")[1]: line.split()[-1] for line in text.splitlines() if line.rstrip().endswith("ed")}
    verdicts = {
        key: verdict
        for words, verdict in ends.items()
        for key in ("resident", "ImageFolder", "bare", "until")
        if key in words
    }
    assert verdicts == {"resident": "reached", "ImageFolder": "missed", "bare": "reached", "until": "missed"}
    assert "peer: no network" in text
    assert text.count("n/a") == 2


def test_a_quick_run_is_not_compared_with_the_aims():
    text = shown(figures(FOUND) | {"missing": {}, "quick": True})
    assert "aims apply to a full run" in text
    assert "reached" not in text
    assert "missed" not in text


def test_a_gpu_has_its_own_aims():
    found = figures(FOUND) | {"missing": {}, "quick": False}
    assert "at least 5" in shown(found, "cuda")
    assert "at least 5" not in shown(found, "cpu")
