"""The inference benchmark predicts the same files in three ways, and its figures are medians of ratios."""

import statistics
from pathlib import Path

from fedbus.settings.load import build_settings
from simulations.benchmarks.inference import measure


def test_ratios_are_medians_over_the_turns(tmp_path: Path) -> None:
    settings = build_settings({"model": "test_resnet", "weights": "none", "image-size": 32}, "the test")
    found = measure(settings, tmp_path, images=5, turns=2)
    speeds = found["images_per_second"]
    assert {name: len(each) for name, each in speeds.items()} == {"ours": 2, "bare": 2, "onnxruntime": 2}
    for name, key in (("ours", "inference_over_bare"), ("onnxruntime", "onnxruntime_over_bare")):
        assert found[key] == statistics.median(a / b for a, b in zip(speeds[name], speeds["bare"], strict=True))
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 5
