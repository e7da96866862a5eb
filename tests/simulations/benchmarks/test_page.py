"""docs/performance.md: its tables are those of docs/bench.json, and the command that fills them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fedbus.system.threads import VARIABLES
from simulations.benchmarks import page
from simulations.benchmarks.page import DOCS, MARKED, REASON, fill, read_before
from simulations.benchmarks.page_figures import GROUPS, Before, all_figures, figures_table, missed, short
from simulations.benchmarks.page_tables import TABLES
from simulations.benchmarks.results import Results, read_results

APP = typer.Typer()
APP.command()(page.main)

RUN = {
    "run": "2026-01-02T03:04:05+00:00", "created": "2026-01-02T03:05:06+00:00", "seconds": 7, "other_share": 0.01,
    "machine": {"cpu": "a processor", "cores": 2, "memory": "24 GiB", "gpu": None},
    "versions": {"python": "3.11.1", "torch": "2.15"},
}  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / page.PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results(DOCS / page.RESULTS)


def strings(value: Any, key: str = "") -> list[tuple[str, str]]:
    """List all texts of a JSON file, each with the key under which it is."""
    if isinstance(value, dict):
        return [("key", name) for name in value] + [each for name in value for each in strings(value[name], name)]
    if isinstance(value, list):
        return [each for entry in value for each in strings(entry, key)]
    return [(key, value)] if isinstance(value, str) else []


@pytest.mark.parametrize(("name", "table"), [(page.PAGE, "figures"), (page.GPU_PAGE, "gpu-workers")])
def test_the_tables_of_the_pages_are_made_from_the_results(name, table, results):
    text = (DOCS / name).read_text(encoding="utf-8")
    assert fill(text, results, read_before(DOCS / page.BEFORE)) == text, (
        "Run: python -m simulations.benchmarks.page docs/bench.json"
    )
    assert table in MARKED.findall(text)


def test_the_page_explains_each_missed_aim_and_only_known_figures(text, results):
    explained = set(REASON.findall(text))
    assert missed(results) <= explained
    assert explained <= {figure.key for figure in all_figures()}


def test_the_page_starts_with_the_table_of_figures_and_is_short(text):
    assert text.index("<!-- table: figures -->") < text.index("\n## ")
    assert len(text.splitlines()) <= 300


def test_the_published_results_contain_no_paths_hosts_or_users(results):
    content = json.loads((DOCS / page.RESULTS).read_text(encoding="utf-8"))
    found = strings(content)
    assert [each for each in found if re.search(r"[/\\\\~@]", each[1])] == []
    known = {
        "key",
        "run",
        "created",
        "cpu",
        "memory",
        "gpu",
        "model",
        "payload",
        "precision",
        "device",
        "name",
        "version",
        "arm",
        "left",  # trainings of the GPU's comparison
        "missing",  # a package that the GPU machine lacked
        *VARIABLES,
    }
    versions = {name for facts in results.runs.values() for name in facts["versions"]}
    assert {key for key, _ in found} <= known | versions
    assert (content["quick"], content["settings"], content["missing"]) == (False, {}, {})


def test_every_figure_belongs_to_what_users_feel_and_every_earlier_value_to_a_figure():
    grouped = {part for parts in GROUPS.values() for part in parts}
    assert {figure.part for figure in all_figures()} <= grouped
    before = read_before(DOCS / page.BEFORE)
    assert before.figures.keys() <= {figure.key for figure in all_figures()}
    assert all({"value", "date", "source"} == entry.keys() for entry in before.figures.values())
    assert before.rows.keys() <= TABLES.keys() | grouped


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.976, ".976"), (1.027, "1.03"), (12.84, "12.8"), (-1.6, "\N{MINUS SIGN}1.6"), (0.4, ".4"), (1.00004, "1"),
        (0.0041, ".0041"), (100_000, "100 000"), (94.2, "94.2"), (230.4, "230"), (0, "0"), (10, "10"), (None, ""),
        ("flat", "flat"), (0.0, "0"), (1234.6, "1 235"),
    ],
)  # fmt: skip
def test_values_have_about_three_digits(value, expected):
    assert short(value) == expected


def test_a_row_shows_measured_before_aim_and_whether_the_aim_is_reached():
    measured = {"engine": {"engine_over_ceiling": 0.99, "engine_over_plain": 1.5}}
    before = Before({"engine_over_plain": {"value": 2.03}}, {})
    lines = figures_table(Results(False, {}, measured, {"engine": RUN}), before).splitlines()
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[3:-1]] for line in lines if "`" in line}
    assert cells["engine_over_ceiling"] == [".99", "", "≥ .97", "reached"]
    assert cells["engine_over_plain"] == ["1.5", "2.03", "≥ 2", "**missed**"]
    assert cells["federation_over_bare"] == ["?", "", "≤ 1.05", ""]


def test_cases_are_columns_and_earlier_values_are_in_brackets():
    rows = [{"sites": 3, "round_s": 0.2}, {"sites": 1000, "round_s": 60.0}]
    before = Before({}, {"sites": [{"sites": 3, "round_s": 0.3}, {"sites": 10, "round_s": 0.63}]})
    table = TABLES["sites"](Results(False, {}, {"sites": {"rows": rows}}), before).splitlines()
    assert table[0] == "| sites | 3 | 1 000 |"
    assert table[2:] == ["| seconds per round | .2 (.3) | 60 |"]
    earlier = TABLES["sites"](Results(False, {}), before).splitlines()
    assert (earlier[0], earlier[2]) == ("| sites | 3 | 10 |", "| seconds per round | ? (.3) | ? (.63) |")


def test_a_row_of_runs_names_what_was_measured_together_and_whether_the_machine_was_quiet():
    runs = {
        "engine": RUN,
        "secure": RUN | {"other_share": 0.04},
        "images": RUN | {"run": "2026-02", "other_share": 0.5},
    }
    lines = TABLES["runs"](Results(False, {}, {}, runs), Before({}, {})).splitlines()
    assert lines[2].startswith(
        "| engine, secure | 2026-01-02 | a processor, 2 cores, 24 GiB | python 3.11.1, torch 2.15 |"
    )
    assert "a quiet machine" in lines[2]
    assert lines[3].endswith("| 50% |")


@pytest.fixture
def docs(tmp_path) -> Path:
    (tmp_path / page.GPU_PAGE).write_text("<!-- table: gpu -->\n<!-- end -->\n")
    (tmp_path / page.PAGE).write_text("Before\n<!-- table: sites -->\nold\n<!-- end -->\nAfter\n")
    (tmp_path / page.BEFORE).write_text('{"figures": {}, "rows": {}}')
    return tmp_path


def run(docs: Path, *files: Path) -> Any:
    return CliRunner().invoke(APP, [str(docs / page.RESULTS), *map(str, files), "--docs", str(docs)])


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_one_command_takes_results_into_the_published_file_and_fills_the_page(docs, tmp_path):
    measured = {"sites": {"rows": [{"sites": 3, "round_s": 0.5}], "settings": {"cache": "/private"}, "command": "/a"}}
    given = tmp_path / "given.json"
    Results(False, {"cache": "/private"}, measured, {"sites": RUN}).write(given)
    assert run(docs, given).exit_code == 0
    assert "| seconds per round | .5 |" in (docs / page.PAGE).read_text()
    found = read_results(docs / page.RESULTS)
    assert found.parts == {"sites": {"rows": [{"sites": 3, "round_s": 0.5}]}}
    assert found.runs == {"sites": RUN}
    own = {
        "part": "peers",
        "over_ours": 2.0,
        "command": "bench",
        "created": "2026",
        **{k: RUN[k] for k in ("machine", "versions")},
    }
    assert run(docs, write(tmp_path / "peers.json", own)).exit_code == 0
    found = read_results(docs / page.RESULTS)
    assert (found.parts["peers"], found.parts.keys()) == ({"over_ours": 2.0}, {"sites", "peers"})
    assert found.runs["peers"]["run"] == "2026"


def test_a_missed_aim_without_a_reason_is_reported(docs, tmp_path):
    given = tmp_path / "given.json"
    Results(False, {}, {"engine": {"engine_over_ceiling": 0.9, "engine_over_plain": 3.0}}, {"engine": RUN}).write(given)
    done = run(docs, given)
    assert done.exit_code == 1
    assert "engine_over_ceiling" in done.output
    assert "engine_over_plain" not in done.output
    with (docs / page.PAGE).open("a") as file:
        file.write("- `engine_over_ceiling`: the machine was slow.\n")
    assert run(docs).exit_code == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"quick": True, "parts": {}}, "quick run"),
        ({"a": 1}, "is no result"),
        ({"part": "x", "where": "/home/me", "created": "", "machine": {}, "versions": {}}, "'/home/me'"),
    ],
)
def test_what_is_not_fit_for_the_page_is_refused_and_nothing_changes(docs, tmp_path, content, says):
    before = (docs / page.PAGE).read_text()
    done = run(docs, write(tmp_path / "given.json", content))
    assert done.exit_code == 2
    assert says in done.output
    assert (docs / page.PAGE).read_text() == before
    assert not (docs / page.RESULTS).exists()


def test_a_table_that_does_not_exist_is_refused(docs):
    (docs / page.PAGE).write_text("<!-- table: nothing -->\n<!-- end -->\n")
    done = run(docs)
    assert done.exit_code == 2
    assert "nothing" in done.output
