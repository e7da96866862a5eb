"""Runs under secure aggregation for the tests of faults and lies."""

from pathlib import Path

import pytest

from fedbus.errors import RunError
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings
from tests.five_sites import SECURE as SECURE_SETTINGS
from tests.five_sites import first
from tests.server.rounds.federation import federate


def secure(settings: Settings, sites: int, **changes) -> Settings:
    return first(settings, sites, rounds=1, **SECURE_SETTINGS, **changes)


def refused_run(settings: Settings, prepared: Path, out: Path, title: str, **lies) -> str:
    """Run with three sites, none of which may fail; return why the run is refused."""
    with pytest.raises(RunError) as refused:
        federate(settings, prepared, out, title=title, **lies)
    assert not ArmFolder(out).read_history()
    return str(refused.value)
