"""The folder of a site's prepared data, which also contains its own BatchNorm."""

from pathlib import Path

from clients.workspace import _prepared_folder
from fedbus.datasets.manifest import Manifest, Row
from tests.tiny import tiny_settings

MANIFEST = Manifest("north", Path("/data"), (Row("a.png", "benign", None, "0" * 64),))


def test_what_a_resumed_run_may_change_keeps_the_folder(tmp_path):
    def folder(**changes):
        return _prepared_folder(tiny_settings(**changes), "north", tmp_path, MANIFEST)

    assert folder(threshold="youden", bootstrap=7, round_timeout=9.0) == folder()
    assert folder(fold=1) != folder()
    assert folder(image_size=64) != folder()
