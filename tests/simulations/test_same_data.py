"""A resumed comparison goes on with the rows that it began with, wherever their decoded copies lie."""

import shutil

import pytest

from fedbus.errors import RunError
from fedbus.sites import prepare_sites, read_facts
from simulations.compare import _check_same_data


def test_another_cache_is_the_same_data(tiny_study, tmp_path):
    prepare_sites(tiny_study, tmp_path)
    before = read_facts(tmp_path)
    prepare_sites(tiny_study.model_copy(update={"cache": tmp_path / "other"}), tmp_path)
    assert read_facts(tmp_path) != before
    _check_same_data(before, tmp_path)
    _check_same_data(None, tmp_path)


def test_a_changed_archive_is_refused_and_the_old_facts_are_put_back(tiny_study, tmp_path):
    prepare_sites(tiny_study, tmp_path)
    before = read_facts(tmp_path)
    source = tiny_study.sites["north"]
    changed = source.model_copy(update={"path": shutil.copytree(source.path, tmp_path / "changed")})
    (tmp_path / "changed" / "Benign" / "0.png").unlink()
    prepare_sites(tiny_study.model_copy(update={"sites": tiny_study.sites | {"north": changed}}), tmp_path)
    with pytest.raises(RunError, match="no longer what they were"):
        _check_same_data(before, tmp_path)
    assert read_facts(tmp_path) == before
