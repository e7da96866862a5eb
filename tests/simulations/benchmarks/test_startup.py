"""The benchmark of the start reaches the first optimiser step, and notices when it does not."""

import pytest

from fedbus.errors import RunError
from fedbus.system.files import read_json
from simulations.benchmarks import startup


def test_the_start_is_measured_with_and_without_earlier_files(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "TURNS", 1)
    startup.main(tmp_path / "startup.json", 30)
    found = read_json(tmp_path / "startup.json")
    assert found["startup_compare_s"] >= found["startup_compare_cpu_s"] / 64 > 0
    assert found["startup_first_compare_s"] > 0
    assert found["modules"] > 500


def test_a_comparison_that_fails_is_not_measured(tmp_path):
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="ended before its first step"):
        startup.measure(tmp_path, 0, 30)
