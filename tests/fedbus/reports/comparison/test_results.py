"""Reading `results.json`, also of the previous version, and importing it without what only a page needs."""

import json
import subprocess
import sys

import pytest

from fedbus.errors import RunError
from fedbus.reports.comparison.results import read_results
from tests.report_sample import sample_results


def test_results_of_the_previous_version_are_read_with_their_present_keys(tmp_path):
    results = sample_results()
    old = json.loads(json.dumps(results))
    for site in old["sites"].values():
        site["parts"] = site.pop("splits")
    for work in old["work"].values():
        work["kept_round"] = work.pop("best_round")
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert read_results(tmp_path) == results


def test_missing_results_are_an_error(tmp_path):
    with pytest.raises(RunError, match=r"results\.json"):
        read_results(tmp_path)


def test_importing_results_and_wording_loads_neither_matplotlib_nor_jinja():
    modules = "fedbus.reports.comparison.results, fedbus.reports.wording, fedbus.reports.study.page"
    code = f"import sys, {modules}; print([name for name in ('matplotlib', 'jinja2') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
