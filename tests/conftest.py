"""Fixtures shared by all tests."""

import signal
from pathlib import Path

import pytest

from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from tests.archives import make_class_folders, make_labels_csv

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell starts what it puts into the background, and children inherit it; tests press their Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real archives beside the checkout; tests that need it are skipped without it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real archives at {folder}")
    return folder


@pytest.fixture(scope="session")
def two_site_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two hospitals of small noise pictures, one without normals, and a model that trains in milliseconds."""
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
