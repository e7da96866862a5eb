"""Fixtures of the cards' tests."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fedbus.system.files import write_json
from tests.server.hub.finished_hub_run import report


@pytest.fixture(scope="session")
def shared_hub_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hub's finished run, without the report's figures; no test may write to it."""
    return make_hub_run(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def shared_secure_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same under secure aggregation."""
    return make_hub_run(tmp_path_factory.mktemp("secure"), secure=True)


def make_hub_run(root: Path, *, secure: bool = False) -> Path:
    def write_results(results: dict[str, Any], _histories: object, _samples: object, out: Path) -> Path:
        write_json(out / "results.json", results)
        return out / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.hub.report.write_results", write_results)
        return report(root, secure=secure).parent


@pytest.fixture
def hub_run(shared_hub_run: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a hub's finished run."""
    return Path(shutil.copytree(shared_hub_run, tmp_path / "hub-run"))
