"""A small dataset, and a function that prepares sites."""

from pathlib import Path

import pytest

from fedbus.sites.prepare import prepare_sites
from tests.archives import make_class_folders
from tests.fedbus.sites.small_sites import COUNTS, settings_of


@pytest.fixture
def north(tmp_path) -> Path:
    return make_class_folders(tmp_path / "north", COUNTS, seed=1)


@pytest.fixture
def prepare(tmp_path):
    def run(sites: dict[str, tuple[str, Path]], out: str = "out", **changes: object):
        return prepare_sites(settings_of(tmp_path / "cache", sites, **changes), tmp_path / out)

    return run
