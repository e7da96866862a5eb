"""Phantoms follow lesion descriptors, speckle statistics and their settings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest
from fedbus.datasets.phantoms.hospitals import SITES, View, draw_patient
from fedbus.datasets.phantoms.scanner import compress, envelope
from fedbus.datasets.readers import phantoms
from fedbus.errors import ArchiveError, SettingsError
from fedbus.images.decode import decode_image

IMAGES = 20
PATIENTS = 16


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    return phantoms.write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", IMAGES, seed=3)


@pytest.fixture(scope="module")
def manifests(written) -> dict[str, Manifest]:
    return {site: phantoms.read(root, site) for site, root in written.items()}


@pytest.fixture(scope="module")
def first_views() -> dict[str, list[View]]:
    return {
        label: [draw_patient(site, label, n, seed=0)[0] for site in SITES for n in range(PATIENTS)]
        for label in ("benign", "malignant")
    }


def height_over_width(mask: np.ndarray) -> float:
    """Ratio of the mask's standard deviations; pixels are square."""
    rows, columns = np.nonzero(mask)
    return float(rows.std() / columns.std())


def behind_minus_beside(view: View) -> float:
    """Mean grey below the lesion less that of the columns clear of it, at the same depths."""
    rows, columns = np.nonzero(view.mask)
    below = slice(rows.max() + 3, None)
    middle, half = int(columns.mean()), max(2, int(columns.std()))
    beside = np.ones(view.mask.shape[1], dtype=bool)
    beside[max(0, columns.min() - 8) : columns.max() + 8] = False
    return float(view.field[below, middle - half : middle + half].mean() - view.field[below, beside].mean())


def test_same_seed_same_bytes(written, tmp_path):
    again = phantoms.write_phantoms(tmp_path / "again", IMAGES, seed=3)
    for site, root in written.items():
        assert phantoms.read(again[site], site).digest == phantoms.read(root, site).digest


def test_other_seed_shares_no_image(manifests, tmp_path):
    other = phantoms.write_phantoms(tmp_path / "other", IMAGES, seed=4)
    for site, root in other.items():
        fresh = {row.sha256 for row in phantoms.read(root, site).rows}
        assert not fresh & {row.sha256 for row in manifests[site].rows}


def test_a_patient_does_not_depend_on_what_else_is_drawn(written):
    drawn = draw_patient("phantom-b", "benign", 0, seed=3)[0].image
    stored = np.asarray(decode_image(written["phantom-b"] / "images" / "0000_0.png"))
    np.testing.assert_array_equal(drawn, stored)


@pytest.mark.parametrize(
    ("site", "counts"), [("phantom-a", (10, 6, 4)), ("phantom-b", (5, 4, 11)), ("phantom-c", (12, 8, 0))]
)
def test_class_balance(manifests, site, counts):
    assert manifests[site].counts == dict(zip(CLASSES, counts, strict=True))
    assert manifests[site].notes == ()


def test_patients_have_one_to_three_distinct_images_of_one_class(manifests):
    rows = [row for manifest in manifests.values() for row in manifest.rows]
    assert len({row.sha256 for row in rows}) == len(rows) == 3 * IMAGES
    labels: dict[str | None, list[str]] = {}
    for row in rows:
        labels.setdefault(row.patient, []).append(row.label)
    assert {len(of_one) for of_one in labels.values()} == {1, 2, 3}
    assert all(len(set(of_one)) == 1 for of_one in labels.values())


def test_views_of_a_patient_resemble_each_other_more_than_other_patients():
    patients = [draw_patient("phantom-a", "malignant", n, seed=0) for n in range(20)]
    profiles = [[view.field.mean(axis=1) for view in views] for views in patients if len(views) > 1]
    own = [np.abs(a - b).mean() for a, b, *_ in profiles]
    others = [np.abs(a[0] - b[1]).mean() for a in profiles for b in profiles if a is not b]
    assert np.median(own) < 0.6 * np.median(others)


@pytest.mark.parametrize("site", SITES)
def test_images_have_the_scanner_size(written, site):
    images = [decode_image(path) for path in (written[site] / "images").iterdir()]
    assert {image.size for image in images} == {SITES[site].scanner.size}


@pytest.mark.parametrize("site", SITES)
def test_speckle_is_rayleigh(site):
    # Enough resolution cells for the statistics to settle.
    scanner = replace(SITES[site].scanner, size=(1000, 1000), frame=(0, 0, 0, 0))
    tissue = np.full(scanner.grid, -6, dtype=np.float32)
    inner = envelope(tissue, scanner, np.random.default_rng(0))[20:-20, 20:-20]
    assert inner.mean() / inner.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)
    assert (inner**2).mean() == pytest.approx(10**-0.6, rel=0.03)
    # Rayleigh's median over its root mean square is sqrt(ln 2).
    assert np.median(inner) / np.sqrt((inner**2).mean()) == pytest.approx(np.sqrt(np.log(2)), rel=0.02)


def test_log_compression_spends_the_dynamic_range():
    scanner = replace(SITES["phantom-a"].scanner, slope_db=0, noise_db=-200)
    signal = np.broadcast_to(np.float32([1, 10 ** (-scanner.dynamic_range_db / 40), 1e-9]), (4, 3))
    grey = compress(signal, scanner, gain_db=0)
    np.testing.assert_allclose(grey, np.broadcast_to([255, 127, 0], (4, 3)), atol=1)


def test_benign_is_parallel_and_malignant_taller_than_wide(first_views):
    benign, malignant = (
        np.array([height_over_width(view.mask) for view in first_views[label]]) for label in ("benign", "malignant")
    )
    assert np.median(benign) < 0.85
    assert (benign < 1).mean() > 0.75
    assert np.median(malignant) > 1.05
    assert (malignant > 1).mean() > 0.6


def test_malignant_outline_is_irregular(first_views):
    # Area over that of the ellipse with the same second moments: 1 for an ellipse, less for anything else.
    def fullness(mask):
        spread = np.cov(np.stack(np.nonzero(mask)))
        return mask.sum() / (4 * np.pi * np.sqrt(np.linalg.det(spread)))

    benign, malignant = (np.array([fullness(view.mask) for view in views]) for views in first_views.values())
    assert np.median(benign) > 0.99
    assert np.median(malignant) < np.quantile(benign, 0.25)


def test_benign_enhances_and_malignant_shadows(first_views):
    benign, malignant = (
        np.array([behind_minus_beside(view) for view in first_views[label]]) for label in ("benign", "malignant")
    )
    assert np.median(benign) > 8
    assert np.median(malignant) < -20


def test_normals_have_no_lesion():
    assert not any(view.mask.any() for n in range(5) for view in draw_patient("phantom-b", "normal", n, 0))


def test_complete_set_is_reused(tmp_path):
    root = tmp_path / "set"
    datasets = phantoms.write_phantoms(root, IMAGES, seed=0)
    assert datasets == {site: root / site for site in SITES}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    phantoms.write_phantoms(root, IMAGES, seed=0)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_set_is_redrawn_when_settings_differ_or_an_image_is_missing(tmp_path):
    root = tmp_path / "set"
    phantoms.write_phantoms(root, IMAGES, seed=0)
    datasets = phantoms.write_phantoms(root, IMAGES + 2, seed=0)
    assert len(phantoms.read(datasets["phantom-c"], "phantom-c").rows) == IMAGES + 2
    assert json.loads((root / phantoms.MARKER).read_text())["images"] == IMAGES + 2
    gone = next((datasets["phantom-a"] / "images").iterdir())
    gone.unlink()
    phantoms.write_phantoms(root, IMAGES + 2, seed=0)
    assert gone.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(phantoms, "_write_site", fail)
    with pytest.raises(OSError, match="disk full"):
        phantoms.write_phantoms(tmp_path / "set", IMAGES, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_left_unchanged(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArchiveError, match="something else"):
        phantoms.write_phantoms(tmp_path, IMAGES, seed=0)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("images", "seed"), [(19, 0), (20, -1)])
def test_impossible_settings(tmp_path, images, seed):
    with pytest.raises(SettingsError, match="can't be drawn"):
        phantoms.write_phantoms(tmp_path / "set", images, seed)


def test_only_the_sites_of_a_set_match(written, tmp_path):
    assert all(phantoms.matches(root) for root in written.values())
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert not phantoms.matches(tmp_path)


def test_citation_and_terms_call_them_phantoms():
    assert phantoms.CENSUS is None
    assert all("hantom" in text and "FedBUS" in text for text in (phantoms.CITATION, phantoms.TERMS))
