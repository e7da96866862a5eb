"""Fill the tables of docs/performance.md and docs/gpu.md from docs/bench.json.

    python -m simulations.benchmarks.page docs/bench.json [FILE.json ...]

Other files are results of this machine or another one: a `bench.json` of `make bench`, or what one part wrote. Their
parts are first taken into docs/bench.json, without settings, commands and paths. docs/bench-before.json has the figures
before the latest changes. On the page, `<!-- table: NAME -->` and `<!-- end -->` enclose a table; all other text is
written by hand. A figure that misses its aim needs a line with its reason on the page: "- `KEY`: ...".
"""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedbus.errors import FedbusError, RunError
from fedbus.system.files import read_json, write_text
from simulations.benchmarks.page_figures import Before, missed
from simulations.benchmarks.page_tables import TABLES
from simulations.benchmarks.results import Results, read_results

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, GPU_PAGE, RESULTS, BEFORE = "performance.md", "gpu.md", "bench.json", "bench-before.json"

MARKED = re.compile(r"<!-- table: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
REASON = re.compile(r"^- `(\w+)`: \S", re.MULTILINE)

OF_THE_RUN = frozenset({"command", "created", "machine", "part", "quick", "settings", "versions"})
"""Keys of a part's own file that are not results: they are kept with the run, or nowhere."""

PRIVATE = re.compile(r"[/\\~@]")
"""Characters of paths, addresses and accounts, which no name of a model, package or processor has."""


def main(
    files: Annotated[list[Path], typer.Argument(help="docs/bench.json, and results to take into it.")],
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = DOCS,
) -> None:
    """Take results into docs/bench.json, and fill the page's tables from it."""
    console = Console()
    try:
        known = docs / RESULTS
        results = read_results(known) if known.exists() else Results(False, {})
        for file in files:
            if file.resolve() != known.resolve():
                take_file(results, file)
        results.write(known)
        before = read_before(docs / BEFORE)
        pages = {name: fill((docs / name).read_text(encoding="utf-8"), results, before) for name in (PAGE, GPU_PAGE)}
        for name, text in pages.items():
            write_text(docs / name, text)
    except FedbusError as error:
        console.print(f"Error: {error.problem}\nWhat to do: {error.remedy}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    unexplained = sorted(missed(results) - set(REASON.findall(pages[PAGE])))
    for key in unexplained:
        console.print(f"{docs / PAGE} does not say why {key} missed its aim.", markup=False, soft_wrap=True)
    raise typer.Exit(1 if unexplained else 0)


def take_file(results: Results, path: Path) -> None:
    """Take the parts of a `bench.json`, or the part that wrote a file of its own.

    Raises:
        RunError: If the file is of a quick run, is no result, or contains a path.
    """
    content = read_json(path)
    if content.get("quick"):
        raise RunError(
            f"{path} is of a quick run, whose figures are too rough for the page.", "Run it without QUICK=1."
        )
    if "parts" in content:
        given = read_results(path)
        for name, measured in given.parts.items():
            results.take(name, publishable(measured, path), publishable_run(given.runs[name], path))
    elif content.keys() >= {"part", "created", "machine", "versions"}:
        run: dict[str, Any] = {"run": content["created"]}
        run |= {key: content[key] for key in ("created", "machine", "versions")}
        results.take(content["part"], publishable(content, path), publishable_run(run, path))
    else:
        raise RunError(
            f"{path} is no result: it has neither parts nor the keys part, created, machine and versions.",
            "Name the bench.json of make bench, or the file that one part wrote.",
        )


def publishable(measured: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a part's results without what belongs to its run.

    Raises:
        RunError: If a text looks like a path or an address.
    """
    return {key: _checked(value, path) for key, value in measured.items() if key not in OF_THE_RUN}


def publishable_run(run: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return when and on which machine a part ran.

    Raises:
        RunError: If a text looks like a path or an address.
    """
    return {key: _checked(value, path) for key, value in run.items()}


def _checked(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _checked(each, path) for key, each in value.items() if key not in ("command", "settings")}
    if isinstance(value, list):
        return [_checked(each, path) for each in value]
    if isinstance(value, str) and PRIVATE.search(value):
        raise RunError(
            f"{path} contains {value!r}, which may be a path or an address.", "Remove it from what the part writes."
        )
    return value


def read_before(path: Path) -> Before:
    """Read the figures and cases before the latest changes.

    Raises:
        RunError: If the file is missing or damaged.
    """
    content = read_json(path)
    try:
        return Before(content["figures"], content["rows"])
    except KeyError as error:
        raise RunError(f"{path} has no {error.args[0]}.", "Restore it: git checkout docs/bench-before.json.") from None


def fill(page: str, results: Results, before: Before) -> str:
    """Return the page with all marked tables made from the results.

    Raises:
        RunError: If the page marks a table that does not exist.
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in TABLES:
            raise RunError(f"A page marks a table {name}.", f"Choose from: {', '.join(TABLES)}.")
        return f"<!-- table: {name} -->\n{TABLES[name](results, before)}\n<!-- end -->"

    return MARKED.sub(table, page)


if __name__ == "__main__":
    typer.run(main)
