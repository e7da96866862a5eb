"""Every command prints a line before it imports what takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = (
    "numpy", "PIL", "pydantic", "torch", "torchvision", "timm", "flwr", "ray", "scipy", "sklearn", "matplotlib",
    "rich.console", "cryptography", "imagehash", "pydicom", "starlette", "uvicorn", "grpc", "fedbus.settings.schema",
)  # fmt: skip
BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in {SLOW!r}:
            print("imported", name, flush=True)
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from fedbus.cli import main
main()
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("check", ["busi=x"]), ("compare", []), ("evaluate", ["x", "--site", "busi=x"]), ("study", ["backbones"]),
        ("card", ["x"]), ("watch", ["x"]),
        ("hub start", ["x"]), ("hub run", ["x", "y"]), ("hub approve", ["x", "y"]),
        ("site check", ["x"]), ("site join", ["x"]), ("site approve", ["x", "y"]), ("site status", ["x"]),
    ],
)  # fmt: skip
def test_the_first_line_comes_before_slow_imports(command, words):
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command.split(), *words],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[0] == f"Starting fedbus {command} ..."
    assert lines[1].startswith("imported ")


@pytest.mark.parametrize("words", [["check", "--help"], ["site", "--help"], ["--help"], [], ["no-command"]])
def test_help_and_mistakes_need_no_sign_of_life(words):
    result = subprocess.run(
        [sys.executable, "-m", "fedbus", *words],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Usage" in result.stdout + result.stderr
    assert "Starting" not in result.stdout + result.stderr
