"""The command line: what it prints can be typed, and help comes at once."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.settings.load import load_settings
from fedbus.settings.schema import Settings
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
    """The words of the one line that a command prints, parted as a shell would."""
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
    assert start[start.index("--database") + 1] == str(hub.database)
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
    assert printed("hub", "start", hub.path)[-1] == "--disable-runtime-dependency-installation"


@pytest.mark.parametrize(
    ("words", "file"),
    [((), "phantoms"), (("--site=busi={}",), "hospitals"), (("{}/mine.toml", "--site=busi={}"), "mine")],
    ids=["nothing", "a site", "a study and a site"],
)
def test_without_a_study_named_sites_are_compared_by_the_settings_that_did_best(words, file, tmp_path, monkeypatch):
    asked: list[Settings] = []
    monkeypatch.setattr("simulations.compare.compare", lambda study, *_, **__: asked.append(study))
    (tmp_path / "mine.toml").write_text("rounds = 7\n")
    result = CliRunner().invoke(app, ["compare", *(word.format(tmp_path) for word in words)])
    assert result.exit_code == 0, result.output
    folder = tmp_path if file == "mine" else ROOT / "fedbus" / "settings" / "presets"
    expected = load_settings(folder / f"{file}.toml", sites=[f"busi={tmp_path}"] if words else [])
    assert asked == [expected]


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
