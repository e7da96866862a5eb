"""Threads that spin briefly and then sleep: chosen before PyTorch is imported in every process that computes."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fedbus
from fedbus.system.threads import VARIABLES, waiting_policy
from simulations.benchmarks.parts import PARTS

PROBE = f"""
import os, runpy, sys
class Probe:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("at import:", *[os.environ.get(variable) for variable in {VARIABLES!r}], flush=True)
            os._exit(0)
sys.meta_path.insert(0, Probe())
"""
"""Ends a process when it starts to import PyTorch: OpenMP reads the variables then, and never again."""

PROGRAMS = [
    ["fedbus", "compare"], ["simulations.studies.cell_process", "request", "folder"],
    ["simulations.portable.run", "study", "out"], ["simulations.benchmarks.engine", "settings", "out"],
]  # fmt: skip
"""Programs that compute, as words after `python -m`; they end before they read their arguments."""

MODULES = ["clients.app", "server.app", "fedbus.api"]
"""What Flower's processes import, and a user's own program."""

ROOT = Path(fedbus.__file__).parents[1]
BENCHMARKS = sorted({part.command(Path("s"), Path("o"), quick=False)[0] for part in PARTS})


def policy_at_import(code: str, own: dict[str, str]) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | own
    words = [sys.executable, "-c", PROBE + code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "at import: " in done.stdout, done.stderr
    return done.stdout.partition("at import: ")[2].split()


@pytest.mark.parametrize("words", PROGRAMS, ids=lambda words: " ".join(words[:2]))
def test_a_program_chooses_before_it_imports_pytorch(words):
    code = f"sys.argv = {words!r}\nrunpy.run_module({words[0]!r}, run_name='__main__', alter_sys=True)"
    assert policy_at_import(code, {}) == ["PASSIVE", "20000", "None"]


@pytest.mark.parametrize("module", MODULES)
def test_so_do_the_modules_that_other_programs_import(module):
    assert policy_at_import(f"import {module}", {}) == ["PASSIVE", "20000", "None"]


@pytest.mark.parametrize(
    "name", [*BENCHMARKS, "simulations.benchmarks.gpu.__main__", "simulations.benchmarks.__main__"]
)
def test_every_benchmark_imports_the_choice_first(name):
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert isinstance(first, ast.Import)
    assert first.names[0].name == "fedbus.system.threads"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"GOMP_SPINCOUNT": "7"}, ["None", "7", "None"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None", "None"]),
        ({"KMP_BLOCKTIME": "0"}, ["None", "None", "0"]),
    ],
)
def test_the_choice_of_the_user_is_left_alone(own, expected):
    assert policy_at_import("import fedbus.system.threads, torch", own) == expected


def test_the_policy_is_the_users_or_ours(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert waiting_policy() == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    assert waiting_policy() == {"KMP_BLOCKTIME": "0"}
