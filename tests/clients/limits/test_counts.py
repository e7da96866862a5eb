"""No count that leaves a site is about too few images or patients."""

from dataclasses import replace

import numpy as np
import pytest

from clients.limits.counts import check_counts
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Row
from fedbus.datasets.phantoms.hospitals import SITES
from fedbus.settings.load import PHANTOMS_PRESET, build_settings, load_settings
from fedbus.sites.prepare import load_dataset
from fedbus.sites.site import Site
from fedbus.sites.split import SPLITS
from fedbus.sites.split_dataset import GroupedRows, split_dataset
from tests.tiny import noise_site

DEFAULTS = Limits.model_validate({})


def limits(**changes: int) -> Limits:
    return DEFAULTS.model_copy(update=changes)


def site() -> Site:
    """15, 10 and 5 images, a fifth of each in validation and in test; every image is a patient of its own."""
    return noise_site(counts=(15, 10, 5))


@pytest.mark.parametrize(("least", "faulty"), [(1, 0), (2, 2), (3, 4), (4, 7)])
def test_each_class_of_each_split_is_counted(least, faulty):
    found = [round(share * count) for share in (0.6, 0.2, 0.2) for count in (15, 10, 5)]
    assert sum(count < least for count in found) == faulty
    strict = limits(min_images=least)
    if not faulty:
        check_counts(site(), strict)
        return
    with pytest.raises(RefusedError) as refused:
        check_counts(site(), strict)
    assert refused.value.problem.count(f"min-images = {least}") == faulty
    assert "fewer normal images in validation" in refused.value.problem


def test_a_class_that_the_site_lacks_is_no_small_count():
    check_counts(noise_site(counts=(20, 20, 0)), DEFAULTS)


def test_the_images_of_one_patient_are_one_patient():
    many = noise_site(counts=(20, 20, 20))
    check_counts(many, limits(min_patients=4, min_split_patients=12))
    rows = many.splits["validation"]
    groups = many.groups.copy()
    groups[rows[many.labels[rows] == 2]] = "one"
    shared = replace(many, groups=groups)
    check_counts(shared, limits(min_images=4, min_split_patients=9))
    with pytest.raises(RefusedError, match="fewer normal patients in validation than this site's min-patients = 2"):
        check_counts(shared, limits(min_patients=2))
    with pytest.raises(RefusedError, match="fewer patients in validation than this site's min-split-patients = 10"):
        check_counts(shared, limits(min_split_patients=10))


def test_a_repeated_row_is_one_image():
    few = noise_site(counts=(20, 20, 20))
    splits = dict(few.splits) | {"test": np.repeat(few.splits["test"][:1], 40)}
    with pytest.raises(RefusedError, match="fewer benign images in test"):
        check_counts(replace(few, splits=splits), DEFAULTS)


def test_the_refusal_does_not_contain_the_count():
    with pytest.raises(RefusedError) as refused:
        check_counts(noise_site(counts=(20, 20, 7)), limits(min_images=3, min_split_patients=1))
    digits = {word.strip(".;") for word in refused.value.problem.split() if word.strip(".;").isdigit()}
    assert digits == {"3"}


def test_the_smallest_public_dataset_is_within_the_default_limits(shared_data, tmp_path):
    source = {"reader": "bus-uclm", "path": str(shared_data / "BUS-UCLM")}
    settings = build_settings({"sites": {"s": source}, "cache": str(tmp_path), "image-size": 32}, "the tests")
    dataset = load_dataset("s", settings.sites["s"], settings, None)
    for fold in range(5):
        split = split_dataset(dataset.grouped, settings.model_copy(update={"fold": fold}))
        for name in ("train", "validation", "test"):
            rows = [row for row in split.rows if row.split == name]
            assert len({row.group for row in rows}) >= DEFAULTS.min_split_patients
            for label in ("benign", "malignant", "normal"):
                assert sum(row.label == label for row in rows) >= DEFAULTS.min_images


@pytest.mark.parametrize("hospital", SITES)
def test_the_phantoms_of_the_default_comparison_are_within_the_default_limits(hospital):
    settings, generator = load_settings(PHANTOMS_PRESET), np.random.default_rng(0)
    rows = []
    for label, share in zip(CLASSES, SITES[hospital].mix, strict=True):
        images, patient = round(settings.phantom_images * share), 0
        while images > 0:  # one to three views of a patient, as `draw_patient` has them, but not drawn
            views = min(images, int(generator.choice(3, p=(0.5, 0.3, 0.2))) + 1)
            rows += [Row(f"{label}-{patient}-{view}.png", label, f"{label}-{patient}", "") for view in range(views)]
            images, patient = images - views, patient + 1
    groups = [row.patient for row in rows]
    split = split_dataset(GroupedRows(hospital, rows, groups, {}), settings)
    place = np.array([row.split for row in split.rows])
    labels = np.array([CLASSES.index(row.label) for row in split.rows])
    splits = {name: np.flatnonzero(place == name) for name in SPLITS}
    pixels = np.zeros((len(rows), 1, 1), dtype=np.uint8)
    check_counts(Site(hospital, pixels, labels, np.array(groups), np.array([]), splits), DEFAULTS)
