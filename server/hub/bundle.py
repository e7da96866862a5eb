"""The application as Flower bundles it: FedBUS's own source files and nothing else of this machine."""

import shutil
from importlib import metadata
from pathlib import Path

from fedbus.deployment.application import ROOT, digest_of, installed_files
from fedbus.system.files import write_text
from server.flower_internals import build_fab_from_disk
from server.hub.folder import HubFolder

PROJECT = """\
[project]
name = "fedbus"
version = "{version}"
description = "Federated breast-ultrasound classification"

[tool.flwr.app]
publisher = "fedbus"
fab-include = ["fedbus/**/*.py", "server/**/*.py", "clients/**/*.py"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "clients.app:app"

[tool.flwr.app.config]
hub-run = ""
"""


def application_folder(hub: HubFolder) -> Path:
    """Where the copy lies."""
    return hub.path / "application"


def stage_application(hub: HubFolder) -> tuple[Path, str]:
    """Copy the installed application into the hub's folder, as Flower wants it to lie.

    Returns:
        The folder, and the digest of the bundle that Flower makes of it.
    """
    folder = application_folder(hub)
    shutil.rmtree(folder, ignore_errors=True)
    for name in installed_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    write_text(folder / "pyproject.toml", PROJECT.format(version=metadata.version("fedbus")))
    return folder, digest_of(build_fab_from_disk(folder))
