"""The pages on deployment say what the code does: commands, what crosses the wire, and which tests there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from fedbus.cli import app
from fedbus.settings.schema import Settings
from fedbus.transport.allow_list import REGISTRATION, REPORT, TEST_REPORT
from fedbus.transport.messages import PROXIMAL_MU, ROUND, Instruction

ROOT = Path(__file__).resolve().parents[1]
SECURITY, DEPLOY, README = ROOT / "docs/security.md", ROOT / "docs/deploy.md", ROOT / "README.md"

TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def code_of(page: str) -> Iterator[str]:
    """Lines of the indented blocks, continued ones joined, and all words between backticks."""
    joined = re.sub(r"\\\n\s*", " ", page)
    yield from (line for line in joined.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", page)


def commands_of(page: str) -> list[list[str]]:
    """The words of every `fedbus` command; several may stand in one line, side by side."""
    pieces = [re.split(r"(?<![\w./-])fedbus (?=[a-z])", re.sub(r"\s#.*", "", text)) for text in code_of(page)]
    return [["fedbus", *re.sub(r"\[(--[^\]]+)\]", r"\1", each).split()] for piece in pieces for each in piece[1:]]


def complaint(words: list[str]) -> str:
    """What the command line would not know of a command; empty if it knows all."""
    command: click.Command = typer.main.get_command(app)
    rest = [re.sub(r"[.,;:`)]+$", "", word) for word in words[1:]]
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            return f"{' '.join(words)}: no verb {rest[:1]}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known | {"--help"}]
    return f"{' '.join(words)}: no option {unknown}" if unknown else ""


@pytest.mark.parametrize("page", [DEPLOY, README, SECURITY], ids=lambda path: path.name)
def test_every_command_on_a_page_is_one(page):
    commands = commands_of(page.read_text(encoding="utf-8"))
    assert commands
    assert [said for words in commands if (said := complaint(words))] == []


def test_a_command_that_is_none_would_be_seen():
    page = "    $ fedbus hub launch hub\n    fedbus hub run hub --fast     fedbus site join DIR   # fedbus hub no\n"
    said = [complaint(words) for words in commands_of(page + "`fedbus chek`")]
    assert [bool(words) for words in said] == [True, True, False, True]


def test_the_page_walks_through_every_verb_of_hub_and_site():
    shown = {tuple(words[1:3]) for words in commands_of(DEPLOY.read_text(encoding="utf-8"))}
    groups = {name: typer.main.get_command(app).commands[name] for name in ("hub", "site")}
    assert {(name, verb) for name, group in groups.items() for verb in group.commands} <= shown


def keys_in_tables(page: str) -> set[str]:
    """The words between backticks in the first column of all tables."""
    cells = (line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def test_everything_that_crosses_the_wire_is_listed_and_nothing_else():
    answers = {item.key for item in (*REGISTRATION, *REPORT, *TEST_REPORT)} | {"site", "labels"}
    instructions = {*Instruction(Settings(), 0, ()).to_config(), ROUND, PROXIMAL_MU}
    assert keys_in_tables(SECURITY.read_text(encoding="utf-8")) - {"ca.crt"} == answers | instructions


def test_the_page_gives_the_size_of_every_number_that_a_site_sends():
    rows = [line.split("|")[1:-1] for line in SECURITY.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    told = {key: cells[2].split()[0] for cells in rows if len(cells) == 4 for key in re.findall(r"`(.+?)`", cells[0])}
    sizes = {item.key: str(item.values) for item in (*REGISTRATION, *REPORT, *TEST_REPORT)}
    assert {key: told.get(key) for key in sizes} == sizes


def test_every_test_that_is_named_exists():
    named = set(TEST_NAME.findall(SECURITY.read_text(encoding="utf-8")))
    assert named
    for path, function in sorted(named):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{function}"


@pytest.mark.parametrize("page", [SECURITY, DEPLOY], ids=lambda path: path.name)
def test_every_file_that_a_page_points_to_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    paths = [ROOT / path for path in re.findall(r"`((?:tests|server|clients|fedbus|simulations)/[\w/.]+)`", text)]
    assert links
    assert paths
    assert [path for path in links + paths if not path.exists()] == []
