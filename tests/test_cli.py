"""The command line: printed commands can be typed, help is quick, and messages are short."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.settings.load import load_settings
from fedbus.settings.schema import Settings
from fedbus.system.third_party import show_argument_help
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import HubFolder, init_hub
from tests.site_folders import make_site

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    hub = init_hub(tmp_path / "the hub", "127.0.0.1")
    hub.add_site(ApprovedSite("north", 77, f"SHA256:{'n' * 43}", "2026-01-31T12:00:00+00:00"))
    return hub


def printed(*words: object) -> list[str]:
    """The words of the one line that a command prints, split as a shell would."""
    result = CliRunner().invoke(app, [*map(str, words), "--print-command"])
    assert result.exit_code == 0, result.output
    (line,) = result.output.splitlines()
    return shlex.split(line)


def check_line(words: list[str], settings: dict[str, str], *command: str) -> None:
    count = sum(1 for word in words if re.match(r"[A-Z_]+=", word))
    given = dict(word.split("=", 1) for word in words[:count])
    assert settings.items() <= given.items()
    assert (PROGRAMS / words[count]).is_file()
    assert words[count : count + len(command)] == list(command)


def test_what_the_hub_would_run_can_be_typed(hub, tmp_path):
    home = {"FLWR_HOME": str(hub.flower)}
    site = make_site(tmp_path)
    start = printed("hub", "start", hub.path)
    check_line(start, home, "flower-superlink", "--host", "127.0.0.1", "--port", "9093")
    assert "--database" not in start, "its state is in memory"
    assert "--insecure" not in start
    approve = printed("hub", "approve", hub.path, site.public_key)
    check_line(approve, home, "flwr", "supernode", "register", str(site.public_key), "hub", "--name", "st-mary")
    check_line(printed("hub", "revoke", hub.path, "north"), home, "flwr", "supernode", "unregister", "77", "hub")
    run = printed("hub", "run", hub.path, "my study.toml")
    check_line(run, home, "flwr", "run", str(hub.path / "application"), "hub", "--run-config")
    assert run[-1] == f'hub-run="{hub.runs / "my study"}"'
    assert list(hub.sites()) == ["north"]


def test_what_a_site_would_run_can_be_typed(tmp_path):
    (tmp_path / "a ward").mkdir()
    site = make_site(tmp_path / "a ward", "hub.example.org:9092")
    words = printed("site", "join", site.path)
    check_line(words, {}, "flower-supernode", "--superlink", "hub.example.org:9092")
    assert words[words.index("--root-certificates") + 1] == str(site.ca_certificate)
    assert words[words.index("--auth-supernode-private-key") + 1] == str(site.key)
    assert "--insecure" not in words


def test_a_narrow_terminal_does_not_break_the_line(hub, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert printed("hub", "start", hub.path)[-2:] == ["--superexec-auth-secret-file", "SECRET-FILE"]


@pytest.mark.parametrize(
    ("words", "file"),
    [((), "phantoms"), (("--site=busi={}",), "hospitals"), (("{}/mine.toml", "--site=busi={}"), "mine")],
    ids=["nothing", "a site", "a settings file and a site"],
)
def test_sites_without_a_settings_file_are_compared_with_the_hospitals_preset(words, file, tmp_path, monkeypatch):
    compared: list[Settings] = []
    monkeypatch.setattr("simulations.compare.compare", lambda settings, *_, **__: compared.append(settings))
    (tmp_path / "mine.toml").write_text("rounds = 7\n")
    result = CliRunner().invoke(app, ["compare", *(word.format(tmp_path) for word in words)])
    assert result.exit_code == 0, result.output
    folder = tmp_path if file == "mine" else ROOT / "fedbus" / "settings" / "presets"
    expected = load_settings(folder / f"{file}.toml", sites=[f"busi={tmp_path}"] if words else [])
    assert compared == [expected]


@pytest.mark.parametrize(
    "words",
    [("--help",), ("hub", "--help"), ("site", "--help"), ("hub", "run", "--help"), ("site", "join", "--help")],
    ids=" ".join,
)
def test_help_does_not_wait_for_slow_libraries(words):
    assert modules_after(words) & {"torch", "timm", "flwr", "ray", "matplotlib", "sklearn"} == set()


def test_the_line_that_a_site_would_run_does_not_wait_for_pytorch(tmp_path):
    site = make_site(tmp_path)
    assert "torch" not in modules_after(("site", "join", str(site.path), "--print-command"))


def modules_after(words: tuple[str, ...]) -> set[str]:
    code = (
        "import sys\n"
        "from fedbus.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end\n"
        "print('\\n@', *sys.modules)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return set(done.stdout.rpartition("@")[2].split())


def test_an_expected_error_is_two_lines_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "fedbus", "hub", "status", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert "\nWhat to do: " in done.stderr


def run_fedbus(*words: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedbus", *words]
    environment = os.environ | {"COLUMNS": str(columns)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120, env=environment)


def test_help_opens_with_what_fedbus_does():
    words = " ".join(run_fedbus("--help").stdout.split())
    assert "Train a breast-ultrasound classifier across hospitals without sharing images" in words


def test_help_describes_positional_arguments():
    assert "federation, shortcuts" in run_fedbus("study", "--help").stdout


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


def test_every_command_and_every_option_has_a_help_text():
    show_argument_help()
    commands = dict(all_commands(typer.main.get_command(app)))
    assert len(commands) > 12
    assert [path for path, command in commands.items() if not command.help] == []
    parameters = [(path, parameter) for path, command in commands.items() for parameter in command.params]
    assert [(path, parameter.name) for path, parameter in parameters if not getattr(parameter, "help", None)] == []


def test_a_renamed_setting_is_noted_in_one_line_before_the_error():
    done = run_fedbus("compare", "--set", "transport=flat", "--set", "rounds=0")
    note, *error = done.stderr.splitlines()
    assert note == "Note: The setting transport is now called payload; the old name works until version 0.3."
    assert error[0].startswith("Error: ")
    assert "rounds: " in " ".join(error)
    assert done.stdout == "Starting fedbus compare ...\n"


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_the_table_of_settings_fits_the_terminal(columns):
    lines = run_fedbus("settings", columns=columns).stdout.splitlines()
    assert max(len(line) for line in lines) <= columns
    first_words = {line.split()[0] for line in lines if line.strip()}
    assert {name.replace("_", "-") for name in Settings.model_fields} <= first_words


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "target", "message"),
    [
        (("compare", "--out", "my runs"), "simulations.compare.compare",
         "Stopped. Finished rounds are saved; rerun the same command with: --out 'my runs' --resume"),
        (("study", "sampling", "--out", "out"), "simulations.studies.study.run_study",
         "Stopped. Finished cells and rounds are saved; rerun the same command with: --out out --resume"),
    ],
    ids=["compare", "study"],
)  # fmt: skip
def test_ctrl_c_says_how_to_resume(words, target, message, monkeypatch):
    monkeypatch.setattr(target, interrupt)
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.output.strip()) == (130, message)
