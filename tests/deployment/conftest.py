"""A federation of three sites with generated images, as real processes: one for all tests of a session.

Tests poll for each event, with a limit that a busy machine does not reach.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from simulations.local_federation import LocalFederation
from tests.archives import make_class_folders, make_labels_csv

TIMEOUT_SECONDS = 3600
"""Limit of a test with its fixtures, on a busy machine."""

SETTINGS = {
    "arms": ["fedavg"], "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 4, "rounds": 2,
    "learning-rate": 0.01, "bootstrap": 50, "folds": 3, "device": "cpu", "round-timeout": 600,
}  # fmt: skip


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    root = tmp_path_factory.mktemp("datasets")
    return {
        "east": ("class-folders", make_class_folders(root / "e", {"benign": 12, "malignant": 9, "normal": 9}, seed=1)),
        "north": ("labels-csv", make_labels_csv(root / "n", {"benign": 24, "malignant": 20}, seed=2)),
        "south": ("labels-csv", make_labels_csv(root / "s", {"benign": 14, "malignant": 20, "normal": 11}, seed=3)),
    }


@pytest.fixture(scope="session")
def shared(datasets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalFederation, float]]:
    """The federation of all tests, its hub running and its sites approved; and the seconds that the hub's start took.

    Tests use `hub` or `federation`, which also start what an earlier module has ended.
    """
    # The second would have Flower open another port, on all interfaces; the hub does not let it.
    environment = {"OMP_NUM_THREADS": "1", "FLWR_INTERNAL_GRPC_FLEET_API": "1"}
    with LocalFederation(tmp_path_factory.mktemp("federation"), datasets, environment) as found:
        start = time.monotonic()
        found.start_hub()
        seconds = time.monotonic() - start
        found.approve_sites()
        yield found, seconds


@pytest.fixture(scope="module")
def hub(shared) -> LocalFederation:
    """The federation with its hub running; sites may have joined or not."""
    if not is_running(shared[0], "hub"):
        shared[0].start_hub()
    return shared[0]


@pytest.fixture(scope="module")
def federation(hub: LocalFederation) -> LocalFederation:
    """The federation with hub and all three sites running."""
    for name in hub.sites:
        if not is_running(hub, name):
            hub.start_site(name)
    return hub


@pytest.fixture(scope="session")
def short_timeout(shared) -> int:
    """A round-timeout that one test lets expire: short, but enough for a round on a machine this busy."""
    return max(40, round(5 * shared[1]))


def is_running(federation: LocalFederation, name: str) -> bool:
    return name in federation.processes and federation.processes[name].poll() is None


def end_sites(federation: LocalFederation, names: Iterable[str]) -> None:
    for name in names:
        if name in federation.processes:
            federation.leave(name)


def words_of(federation: LocalFederation, name: str) -> str:
    """Return the output of a process on one line."""
    return " ".join(federation.log(name).read_text().split())


def write_settings(folder: Path, name: str, **changes: object) -> Path:
    """Write a settings file; keys have underscores, as Python requires."""
    settings = SETTINGS | {key.replace("_", "-"): value for key, value in changes.items()}
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items()]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
