"""systemd units: accepted by systemd where it is installed, and parsed by its rules everywhere."""

import getpass
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedbus.deployment.systemd import unit, write_unit
from fedbus.errors import RunError

ODD = "a b%c$d e;f"
ARGUMENTS = [
    "site", "join", "", ";", "a b", "$HOME", "${X}", "$$", "100%", "%h", "it's", 'say "x"', "back\\slash", "\\",
    "tab\tline\nend", "é", "--set=a=1,2", "#x", "~", "*", "'",
]  # fmt: skip


def values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith(("#", "[")))


def words(text: str, *, command: bool) -> list[str]:
    """Read words by systemd.syntax(7) and systemd.service(5), "Command lines"."""
    found = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|(\S+)', text):
        if plain:
            assert not set(plain) & set("\"'\\"), plain
            assert plain != ";"
        word = (
            re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1], quoted) or plain
        )
        assert "%" not in word.replace("%%", "")
        word = word.replace("%%", "%")
        if command and found:  # the program's path knows no variables
            assert "$" not in word.replace("$$", "")
            word = word.replace("$$", "$")
        found.append(word)
    return found


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "run me").write_text("#!/bin/sh\n")
    (folder / "run me").chmod(0o755)
    return folder / "run me"


def test_every_word_arrives_as_it_was_given(program):
    found = values(unit("FedBUS: 100 % of it", [str(program), *ARGUMENTS], program.parent))
    assert words(found["ExecStart"], command=True) == [str(program), *ARGUMENTS]
    assert words(found["ReadWritePaths"], command=False) == [str(program.parent)]
    assert words(found["Environment"], command=False) == [f"XDG_CACHE_HOME={program.parent}/cache"]
    assert found["WorkingDirectory"] == str(program.parent).replace("%", "%%")
    assert found["Description"] == "FedBUS: 100 %% of it"


def test_plain_words_stay_readable(tmp_path):
    found = values(unit("x", ["/opt/fedbus/.venv/bin/fedbus", "hub", "start", "/srv/hub"], tmp_path))
    assert found["ExecStart"] == "/opt/fedbus/.venv/bin/fedbus hub start /srv/hub"


def test_the_service_is_confined_and_restarted(tmp_path):
    found = values(unit("x", ["/bin/true"], tmp_path))
    expected = {
        "Restart": "on-failure", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes",
        "KillMode": "control-group", "After": "network-online.target", "Wants": "network-online.target",
        "ReadWritePaths": str(tmp_path), "User": getpass.getuser(), "WantedBy": "multi-user.target",
        "LimitNOFILE": "65536",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_the_owner_of_a_folder_may_be_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert values(unit("x", ["/bin/true"], tmp_path))["User"] == str(tmp_path.stat().st_uid)


@pytest.mark.parametrize("arguments", [[], ARGUMENTS], ids=["plain", "odd"])
def test_systemd_accepts_it(program, tmp_path, arguments):
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("no systemd on this machine")
    write_unit(tmp_path / "fedbus-test.service", '100 % "x"', [str(program), *arguments], program.parent)
    command = [verify, "verify", "--man=no", tmp_path / "fedbus-test.service"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, [line for line in result.stderr.splitlines() if "fedbus-test" in line]) == (0, [])
    program.unlink()  # the same check sees that a program is missing: it did look at the right path
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"Command {program} is not executable" in result.stderr


@pytest.mark.parametrize("program", ["fedbus", "./fedbus", "/a'b/x", '/a"b/x', "/a\\b/x", "/a\nb/x"])
def test_a_program_that_systemd_cannot_start_is_refused(tmp_path, program):
    with pytest.raises(RunError, match="systemd can't start"):
        unit("x", [program], tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\\", "a "])
def test_a_folder_that_a_unit_cannot_express_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match="unit can't express"):
        unit("x", ["/bin/true"], tmp_path / name)
    with pytest.raises(RunError, match="unit can't express"):
        unit(name, ["/bin/true"], tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunError, match=r"missing can't be read \(No such file"):
        unit("x", ["/bin/true"], tmp_path / "missing")
