"""The manifest: checked rows, counts, digests."""

import hashlib
import pickle

import pytest

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import build_manifest, census_differences
from fedbus.errors import ArchiveError, listed


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return [root / name for name in names]


def test_rows_are_sorted_relative_and_hashed(tmp_path):
    b, a = write(tmp_path, "z/b.png", "a/a.png")
    manifest = build_manifest("north", tmp_path, [(b, "benign", "7"), (a, "malignant", None)])

    assert [(r.path, r.label, r.patient) for r in manifest.rows] == [
        ("a/a.png", "malignant", None),
        ("z/b.png", "benign", "7"),
    ]
    assert manifest.rows[0].sha256 == hashlib.sha256(b"a/a.png").hexdigest()
    assert manifest.counts == {"benign": 1, "malignant": 1, "normal": 0}
    assert list(manifest.counts) == list(CLASSES) == ["benign", "malignant", "normal"]


def test_digest_follows_the_data_and_nothing_else(tmp_path):
    a, b, c = write(tmp_path, "a.png", "b.png", "c.png")
    found = [(a, "benign", "1"), (b, "malignant", "2"), (c, "normal", None)]
    digest = build_manifest("x", tmp_path, found).digest

    assert build_manifest("y", tmp_path, found[::-1], {"benign": 9}, ["a note"]).digest == digest
    for changed in ((a, "normal", "1"), (a, "benign", "3"), (a, "benign", None)):
        assert build_manifest("x", tmp_path, [changed, *found[1:]]).digest != digest
    assert build_manifest("x", tmp_path, found[:2]).digest != digest
    a.write_bytes(b"other pixels")
    assert build_manifest("x", tmp_path, found).digest != digest


def test_bad_datasets_are_refused(tmp_path):
    a, b = write(tmp_path, "a.png", "b.png")
    with pytest.raises(ArchiveError, match="contains no images"):
        build_manifest("x", tmp_path, [])
    with pytest.raises(ArchiveError, match="only benign images"):
        build_manifest("x", tmp_path, [(a, "benign", None), (b, "benign", None)])
    with pytest.raises(ArchiveError, match=r"a\.png \('cyst'\), b\.png \(''\)"):
        build_manifest("x", tmp_path, [(a, "cyst", None), (b, "", None)])


def test_notes_come_before_census_differences(tmp_path):
    a, b = write(tmp_path, "a.png", "b.png")
    census = {"benign": 1, "malignant": 3, "normal": 0}
    manifest = build_manifest("x", tmp_path, [(a, "benign", None), (b, "malignant", None)], census, ["seen"])
    assert manifest.notes == ("seen", "malignant: 1 images found, 3 published")


def test_census_differences():
    assert census_differences({"benign": 1, "malignant": 2, "normal": 0}, None) == []
    assert census_differences({"benign": 1, "malignant": 2, "normal": 5}, {"benign": 1, "malignant": 2}) == [
        "normal: 5 images found, 0 published"
    ]


def test_errors_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(ArchiveError("It is gone.", "Fetch it.")))
    assert (type(error), error.problem, error.remedy) == (ArchiveError, "It is gone.", "Fetch it.")
    assert str(error) == "It is gone. Fetch it."


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(8)]) == "0, 1, 2, 3, 4 and 3 more"
