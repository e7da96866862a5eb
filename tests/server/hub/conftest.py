"""One running gateway for all tests that attack it with real sockets."""

from collections.abc import Iterator

import pytest

from tests.running_gateway import RunningGateway


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
