"""The application as Flower bundles it: FedBUS's own source files and nothing else from this machine."""

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
    """The folder of the hub's copy of the application."""
    return hub.path / "application"


def stage_application(hub: HubFolder) -> tuple[Path, str]:
    """Copy the installed application into the hub's folder, in the layout that Flower bundles.

    A copy, because Flower bundles a whole project folder, and the one where FedBUS is installed may contain more.

    Returns:
        The folder, and the digest of the bundle that Flower makes from it.
    """
    folder = application_folder(hub)
    shutil.rmtree(folder, ignore_errors=True)  # files of an earlier version would be bundled too
    for name in installed_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    write_text(folder / "pyproject.toml", PROJECT.format(version=metadata.version("fedbus")))
    return folder, digest_of(build_fab_from_disk(folder))
