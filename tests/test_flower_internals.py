"""Modules of Flower that are not public are imported in one place per side, and only with the supported version."""

import ast
import subprocess
import sys
import tomllib

import pytest

from fedbus.deployment import flower_version
from fedbus.deployment.flower_version import FLOWER_VERSION, check_flower_version
from fedbus.errors import RunError
from tests.test_layout import PACKAGES, ROOT, sources

PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.simulation"}
ADAPTERS = {"clients/flower_internals.py", "server/flower_internals.py"}


def modules_of(tree: ast.Module) -> set[str]:
    """Return the modules that a file imports, also inside functions."""
    nodes = list(ast.walk(tree))
    direct = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return direct | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def test_only_the_adapters_import_private_modules():
    private = {
        name: found
        for name, _, tree in sources(*PACKAGES)
        if (found := {module for module in modules_of(tree) if module.split(".")[0] == "flwr"} - PUBLIC)
    }
    assert private.keys() == ADAPTERS, private


def test_the_pinned_version_is_the_one_that_is_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"flwr=={FLOWER_VERSION}" in project["dependencies"]
    check_flower_version()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(flower_version.metadata, "version", lambda name: "1.42.0")
    with pytest.raises(RunError, match=r"^FedBUS works with flwr 1\.41\.0; 1\.42\.0 is installed\.") as error:
        check_flower_version()
    assert error.value.remedy == "Install the supported version: pip install flwr==1.41.0"


@pytest.mark.parametrize("module", ["clients.app", "clients.join", "server.app", "server.hub.gateway"])
def test_nothing_starts_with_another_version(module):
    code = (
        "from importlib import metadata; version = metadata.version\n"
        "metadata.version = lambda name: '1.42.0' if name == 'flwr' else version(name)\n"
        f"import {module}"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "RunError: FedBUS works with flwr 1.41.0; 1.42.0 is installed." in run.stderr
