"""The documentation matches the code: commands, modules, links, wire keys and the names of tests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from fedbus.cli import app
from fedbus.settings.schema import Settings
from fedbus.transport.allow_list import BUDGET, CALIBRATION, MASKED, REGISTRATION, REPORT, SUMMED, TEST_REPORT
from fedbus.transport.messages import PROXIMAL_MU, ROUND, Instruction

ROOT = Path(__file__).resolve().parents[1]
SECURITY, DEPLOY, README = ROOT / "docs/security.md", ROOT / "docs/deploy.md", ROOT / "README.md"
STUDY, LEAKAGE, RESULTS = ROOT / "docs/study.md", ROOT / "docs/leakage.md", ROOT / "docs/results.md"
PERFORMANCE, USE = ROOT / "docs/performance.md", ROOT / "docs/use.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def name_of(page: Path) -> str:
    """Return the id of a page's test."""
    return page.name


def code_of(page: str) -> Iterator[str]:
    """Yield the lines of the shell blocks, continued ones joined, and all words between backticks elsewhere."""
    for language, block in FENCE.findall(page):
        if language == "sh":
            yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", page))


def commands_of(page: str) -> list[list[str]]:
    """Split every `fedbus` command into words."""
    pieces = [re.split(r"(?<![\w./-])fedbus (?=[a-z])", re.sub(r"\s#.*", "", text)) for text in code_of(page)]
    return [["fedbus", *each.split()] for piece in pieces for each in piece[1:]]


def fault_of(words: list[str]) -> str:
    """Describe what the command line does not know of a command; empty if it knows everything."""
    command: click.Command = typer.main.get_command(app)
    rest = [re.sub(r"[.,;:`)]+$", "", word) for word in words[1:]]
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            return f"{' '.join(words)}: no verb {rest[:1]}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known | {"--help"}]
    return f"{' '.join(words)}: no option {unknown}" if unknown else ""


@pytest.mark.parametrize("page", [DEPLOY, README, SECURITY, STUDY, LEAKAGE, RESULTS, USE], ids=name_of)
def test_every_command_exists(page):
    commands = commands_of(page.read_text(encoding="utf-8"))
    assert commands
    assert [fault for words in commands if (fault := fault_of(words))] == []


def test_an_unknown_command_is_found():
    block = (
        "```sh\nfedbus hub launch hub\nfedbus hub run hub \\\n    --fast\nfedbus site join DIR   # fedbus hub no\n```\n"
    )
    faults = [fault_of(words) for words in commands_of(block + "`fedbus chek`")]
    assert [bool(fault) for fault in faults] == [True, True, False, True]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_a_page_runs_exists(page):
    modules = re.findall(
        r"python -m ((?:fedbus|server|clients|simulations|tests)[\w.]*)", page.read_text(encoding="utf-8")
    )
    paths = {name: ROOT / name.replace(".", "/") for name in modules}
    programs = {name: (path.with_suffix(".py"), path / "__main__.py") for name, path in paths.items()}
    assert [name for name, files in programs.items() if not any(file.exists() for file in files)] == []
    assert modules or page not in (PERFORMANCE, STUDY)


def test_the_deployment_page_uses_every_command_of_hub_and_site():
    shown = {tuple(words[1:3]) for words in commands_of(DEPLOY.read_text(encoding="utf-8"))}
    groups = {name: typer.main.get_command(app).commands[name] for name in ("hub", "site")}
    assert {(name, verb) for name, group in groups.items() for verb in group.commands} <= shown


def rows_of_tables(page: str) -> list[list[str]]:
    """List the cells of all table rows."""
    return [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]


def test_everything_that_crosses_the_wire_is_listed_and_nothing_else():
    rows = rows_of_tables(SECURITY.read_text(encoding="utf-8"))
    listed = {key for cells in rows for key in re.findall(r"`(.+?)`", cells[0])}
    items = (*REGISTRATION, *REPORT, *BUDGET, *TEST_REPORT, *CALIBRATION, *SUMMED, *MASKED)
    answers = {item.key for item in items} | {"site", "labels"}
    instructions = {*Instruction(Settings(), 0, ()).to_config(), ROUND, PROXIMAL_MU}
    assert listed == answers | instructions


def test_the_size_of_everything_that_a_site_sends_is_listed():
    rows = rows_of_tables(SECURITY.read_text(encoding="utf-8"))
    listed = {key: cells[2].split()[0] for cells in rows if len(cells) == 4 for key in re.findall(r"`(.+?)`", cells[0])}
    sizes = {item.key: str(item.values) for item in (*REGISTRATION, *REPORT, *BUDGET, *TEST_REPORT, *CALIBRATION)}
    assert {key: listed.get(key) for key in sizes} == sizes


def test_every_test_that_is_named_exists():
    named = {name for page in PAGES for name in TEST_NAME.findall(page.read_text(encoding="utf-8"))}
    assert named
    for path, function in sorted(named):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{function}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    paths = [ROOT / path for path in re.findall(r"`((?:tests|server|clients|fedbus|simulations)/[\w/.]+)`", text)]
    assert links + paths
    assert [path for path in links + paths if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_heading_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(([\w./-]*\.md)?#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if link[1] not in anchors_of(page.parent / link[0] if link[0] else page)] == []


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
