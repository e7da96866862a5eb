"""Each part runs in its own process; one that fails is missing with its reason, and leaves no old result."""

from datetime import datetime
from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from fedbus.errors import RunError
from simulations.benchmarks import __main__ as bench
from simulations.benchmarks import parts as parts_module
from simulations.benchmarks.parts import FULL, PARTS, QUICK, Part, pick_parts
from simulations.benchmarks.results import Results, read_results

APP = typer.Typer()
APP.command()(bench.main)


def test_a_part_gets_its_files_and_the_quick_option_if_it_has_one():
    part = Part("growth", "", ("growth", "rounds", "{out}", "{quick}"), 1)
    assert part.command(Path("s.json"), Path("o.json"), quick=False) == [
        "simulations.benchmarks.growth",
        "rounds",
        "o.json",
    ]
    assert part.command(Path("s.json"), Path("o.json"), quick=True)[-1] == "--quick"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_is_a_program(part: Part):
    module = part.command(Path("s"), Path("o"), quick=True)[0]
    path = Path(bench.__file__).parents[2] / (module.replace(".", "/") + ".py")
    assert "__main__" in path.read_text()


@pytest.fixture
def two_parts(tmp_path, monkeypatch):
    """Two parts, `bad`, which fails, and `good`, which measures the settings."""
    parts = (
        Part("bad", "no such part", ("nothing_of_that_name", "{out}"), 1),
        Part("good", "a part", ("wire_of", "{out}"), 1),
    )
    command = Part.command

    def words(self: Part, settings: Path, out: Path, *, quick: bool) -> list[str]:
        return (
            ["json.tool", str(settings), str(out)] if self.name == "good" else command(self, settings, out, quick=quick)
        )

    monkeypatch.setattr(Part, "command", words)
    monkeypatch.setattr(parts_module, "PARTS", parts)
    return parts


def test_a_failed_part_is_missing_the_others_continue_and_old_results_are_deleted(tmp_path, two_parts):
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad").mkdir()
    (tmp_path / bench.SETTINGS_FILE).write_text('{"a": 1}')
    results = Results(False, {})
    assert bench.run_parts(two_parts, tmp_path, results, Console(quiet=True)) == ["bad"]
    assert results.parts == {"good": {"a": 1}}
    assert "No module named" in results.missing["bad"]
    assert not (tmp_path / "bad.json").exists()
    assert not (tmp_path / "bad").exists()
    assert read_results(tmp_path / "bench.json") == results


def test_only_the_named_parts_are_measured_and_the_others_are_kept(tmp_path, two_parts):
    kept = {"run": "earlier", "other_share": 0.0}
    Results(False, FULL, {"bad": {"b": 1}, "images": {"rows": []}}, {"bad": kept, "images": kept}).write(
        tmp_path / "bench.json"
    )
    done = CliRunner().invoke(APP, [str(tmp_path), "--only", "good"])
    assert done.exit_code == 0, done.output
    found = read_results(tmp_path / "bench.json")
    assert found.parts.keys() == {"bad", "images", "good"}
    assert found.parts["good"]["model"] == "resnetv2_50"
    assert found.runs["bad"] == kept
    run = found.runs["good"]
    assert run["versions"]["torch"] == torch.__version__.split("+")[0]
    assert run["machine"]["cores"] > 0
    assert 0 <= run["other_share"] <= 1
    assert datetime.fromisoformat(run["created"]) >= datetime.fromisoformat(run["run"])


def test_a_part_that_failed_keeps_no_older_measurement(tmp_path, two_parts):
    kept = {"run": "earlier", "other_share": 0.0}
    Results(False, FULL, {"bad": {"b": 1}}, {"bad": kept}).write(tmp_path / "bench.json")
    assert CliRunner().invoke(APP, [str(tmp_path), "--only", "bad"]).exit_code == 1
    found = read_results(tmp_path / "bench.json")
    assert (found.parts, found.runs, list(found.missing)) == ({}, {}, ["bad"])


def test_an_unknown_part_is_refused_with_the_list_of_parts(tmp_path):
    done = CliRunner().invoke(APP, [str(tmp_path), "--only", "engine, startups"])
    assert done.exit_code == 2
    assert "no part startups." in done.output
    assert all(part.name in done.output for part in PARTS)
    assert list(tmp_path.iterdir()) == []


def test_measurements_with_other_settings_are_not_mixed(tmp_path, two_parts):
    Results(True, QUICK).write(tmp_path / "bench.json")
    done = CliRunner().invoke(APP, [str(tmp_path), "--only", "good"])
    assert done.exit_code == 2
    assert "QUICK=1" in done.output
    assert read_results(tmp_path / "bench.json") == Results(True, QUICK)


def test_a_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "bench.json").write_text('{"quick": false}')
    with pytest.raises(RunError, match=r"bench\.json has no settings"):
        read_results(tmp_path / "bench.json")


def test_parts_are_chosen_by_name_and_without_names_by_their_duration():
    assert [part.name for part in pick_parts("images, engine", quick=False)] == ["engine", "images"]
    assert pick_parts("", quick=False) == PARTS
    assert pick_parts(" ", quick=True) == tuple(part for part in PARTS if part.quick)
    assert [part.name for part in pick_parts("images", quick=True)] == ["images"]
