"""Fixtures shared by all tests."""

import signal
from pathlib import Path

import pytest

from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from tests.archives import make_class_folders, make_labels_csv
from tests.five_sites import make_five_sites
from tests.trained_run import train_run

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell starts what it puts into the background, and children inherit it; tests press their Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG_FILES = (
    "deployment/test_faults.py", "deployment/test_join.py", "simulations/studies/test_study.py",
    "simulations/test_cluster.py", "simulations/test_compare.py", "simulations/benchmarks/test_peers.py",
    "deployment/test_admission.py", "simulations/benchmarks/test_growth.py", "test_wheel.py",
    "simulations/test_flwr_run.py", "simulations/test_ray_security.py", "server/rounds/test_policies.py",
)  # fmt: skip
"""Files that take longest, in that order: they start first, so that no process is left with one at the end."""

EXTENDED = (
    "deployment/test_faults.py", "deployment/test_admission.py", "simulations/test_cluster.py",
    "simulations/test_flwr_run.py", "simulations/test_ray_security.py", "simulations/benchmarks/", "test_wheel.py",
)  # fmt: skip
"""Files and folders whose tests are marked `extended`: `make test-all` and CI run them, `make test` does not."""

TESTS = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the extended tests, and put the long files first."""
    rank = {name: place for place, name in enumerate(LONG_FILES)}
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(EXTENDED):
            item.add_marker(pytest.mark.extended)
    items.sort(key=lambda item: rank.get(item.path.relative_to(TESTS).as_posix(), len(rank)))  # stable otherwise


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets beside the checkout; tests that need it are skipped without it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real datasets at {folder}")
    return folder


@pytest.fixture(scope="session")
def two_site_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two sites of small noise images, one without normals, and a model that trains in milliseconds."""
    root = tmp_path_factory.mktemp("archives")
    sources = {
        "north": (
            "class-folders",
            make_class_folders(root / "north", {"benign": 12, "malignant": 9, "normal": 9}, seed=1),
        ),
        "south": ("labels-csv", make_labels_csv(root / "south", {"benign": 24, "malignant": 20}, seed=2)),
    }
    return build_settings(
        {
            "sites": {name: {"reader": reader, "path": str(path)} for name, (reader, path) in sources.items()},
            "cache": str(root / "cache"), "image-size": 32, "model": "test_resnet", "weights": "none",
            "batch-size": 4, "rounds": 3, "learning-rate": 0.01, "bootstrap": 50, "folds": 3, "device": "cpu",
        },
        "the tests",
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_folder(two_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sites of `two_site_settings` are prepared."""
    out = tmp_path_factory.mktemp("prepared")
    prepare_sites(two_site_settings, out)
    return out


@pytest.fixture(scope="session")
def tiny_sites(two_site_settings: Settings, tiny_folder: Path) -> dict[str, Site]:
    """The prepared sites of `two_site_settings`."""
    return prepare_sites(two_site_settings, tiny_folder)


@pytest.fixture(scope="session")
def five_site_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Five sites of small noise images, for federations of three and more."""
    return make_five_sites(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="session")
def five_folder(five_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sites of `five_site_settings` are prepared."""
    out = tmp_path_factory.mktemp("five-prepared")
    prepare_sites(five_site_settings, out)
    return out


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the round loop look for replies at once: those of a grid in this process never take time."""
    monkeypatch.setattr("server.rounds.messaging.POLL_SECONDS", 0.0)


@pytest.fixture(scope="session")
def trained_run(two_site_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison; its arms are model folders. Tests must not change it."""
    return train_run(two_site_settings, tmp_path_factory.mktemp("trained") / "run")
