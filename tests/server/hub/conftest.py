"""One running gateway for all tests that attack it with real sockets, and one report for all that read it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_gateway import RunningGateway
from tests.server.hub.finished_hub_run import report


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def gateway(running_gateway: RunningGateway) -> Iterator[RunningGateway]:
    """The gateway, of which every test must leave an open door and an empty log."""
    running_gateway.superlink.seen.clear()
    yield running_gateway
    assert running_gateway.call_once() == 418
    assert running_gateway.logged == []


@pytest.fixture(scope="session")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a finished run without secure aggregation."""
    return report(tmp_path_factory.mktemp("hub"))
