"""A resumed comparison continues with the rows that it started with, wherever the cache is."""

import shutil

import pytest

from fedbus.errors import RunError
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import read_facts


def test_another_cache_is_the_same_data(two_site_settings, tmp_path):
    prepare_sites(two_site_settings, tmp_path)
    before = read_facts(tmp_path)
    prepare_sites(two_site_settings.model_copy(update={"cache": tmp_path / "other"}), tmp_path)
    assert read_facts(tmp_path) != before


def test_a_changed_dataset_is_refused_and_the_frozen_files_stay(two_site_settings, tmp_path):
    prepare_sites(two_site_settings, tmp_path)
    frozen = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    source = two_site_settings.sites["north"]
    changed = source.model_copy(update={"path": shutil.copytree(source.path, tmp_path / "changed")})
    (tmp_path / "changed" / "Benign" / "0.png").unlink()
    with pytest.raises(RunError, match="have changed since"):
        prepare_sites(
            two_site_settings.model_copy(update={"sites": two_site_settings.sites | {"north": changed}}), tmp_path
        )
    assert all(path.read_bytes() == content for path, content in frozen.items())
