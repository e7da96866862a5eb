"""Samplers on phantoms: what they choose, what they synthesise, and what they never read."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedbus.classes import class_counts
from fedbus.errors import SettingsError
from fedbus.training.balance import INTERPOLATING, ROW_SAMPLERS, balance

RESAMPLERS = (*ROW_SAMPLERS, *INTERPOLATING)
SAMPLERS = ("none", "class-weights", *RESAMPLERS)


def phantom_site(counts=(24, 12, 9), held_out=20, seed=0, size=6):
    """Noise phantoms, each class of its own brightness; held-out rows lie scattered among training rows."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(3), counts), random.integers(3, size=held_out)])
    pixels = random.normal(100 + 15 * labels[:, None, None], 25, (len(labels), size, size))
    order = random.permutation(len(labels))
    training = np.sort(np.flatnonzero(order < sum(counts)))
    return np.clip(pixels[order], 0, 255).astype(np.uint8), labels[order], training


def items(balanced, pixels):
    """Every item of a balanced set as pixels, by the convention of its indices."""
    return np.concatenate([pixels[balanced.rows], balanced.synthetic])


def assert_equal(one, other):
    for name in ("rows", "labels", "synthetic", "class_weights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 2)),
    st.sampled_from(["ros", "rus", "none", "class-weights"]),
    st.integers(0, 2**62),
    st.data(),
)
def test_samplers_that_choose_rows_balance_classes_and_synthesise_nothing(labels, sampler, seed, data):
    chosen = data.draw(st.sets(st.integers(0, len(labels) - 1), min_size=1))
    training = np.array(sorted(chosen))
    pixels = np.zeros((len(labels), 2, 2), dtype=np.uint8)
    balanced = balance(pixels, labels, training, sampler, seed)
    before, after = (np.bincount(labels[rows], minlength=3) for rows in (training, balanced.rows))
    present = before > 0
    assert set(balanced.rows.tolist()) <= chosen
    np.testing.assert_array_equal(balanced.labels, labels[balanced.rows])
    assert balanced.synthetic.shape == (0, 2, 2)
    weights = balanced.class_weights.astype(float)
    if sampler == "ros":
        assert (after == np.where(present, before.max(), 0)).all()
        np.testing.assert_array_equal(balanced.rows[: len(training)], training)
        assert len(set(balanced.rows.tolist())) == len(training), "every row is kept"
    elif sampler == "rus":
        assert (after == np.where(present, before[present].min(), 0)).all()
        assert len(set(balanced.rows.tolist())) == len(balanced.rows), "no row is repeated"
    else:
        np.testing.assert_array_equal(balanced.rows, training)
    if sampler == "class-weights":
        np.testing.assert_allclose(weights * before, np.where(present, len(training) / present.sum(), 0), rtol=1e-6)
    else:
        assert weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize("sampler", ["smote", "adasyn"])
def test_synthetic_phantoms_lie_within_their_class_pixel_by_pixel(sampler):
    pixels, labels, training = phantom_site()
    balanced = balance(pixels, labels, training, sampler, 2)
    np.testing.assert_array_equal(balanced.rows, training)
    np.testing.assert_array_equal(balanced.labels[: len(training)], labels[training])
    invented = balanced.labels[len(training) :]
    assert balanced.synthetic.dtype == np.uint8
    assert balanced.synthetic.shape == (len(invented), 6, 6)
    assert set(invented.tolist()) == {1, 2}
    for label in (1, 2):
        real = pixels[training][labels[training] == label]
        new = balanced.synthetic[invented == label]
        assert (new >= real.min(axis=0)).all()
        assert (new <= real.max(axis=0)).all()
        assert not any((image == real).all(axis=(1, 2)).any() for image in new[:3])


def test_smote_brings_each_class_to_the_largest_one():
    pixels, labels, training = phantom_site()
    balanced = balance(pixels, labels, training, "smote", 2)
    assert class_counts(balanced.labels) == {"benign": 24, "malignant": 24, "normal": 24}


def test_each_smote_phantom_lies_between_two_training_images_of_its_class():
    pixels, labels, training = phantom_site()
    balanced = balance(pixels, labels, training, "smote", 2)
    new, label = balanced.synthetic[0].astype(float).ravel(), balanced.labels[len(training)]
    real = pixels[training][labels[training] == label].reshape(-1, 36).astype(float)
    errors = []
    for start in real:
        for end in real:
            along = (end - start) @ (end - start)
            step = np.clip((new - start) @ (end - start) / along, 0, 1) if along else 0
            errors.append(np.abs(start + step * (end - start) - new).max())
    assert min(errors) < 1.0  # rounding to uint8 moves a pixel by half a grey level


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_class_that_the_site_lacks_stays_missing(sampler):
    pixels, labels, training = phantom_site()
    training = training[labels[training] != 2]
    balanced = balance(pixels, labels, training, sampler, 0)
    assert class_counts(balanced.labels)["normal"] == 0
    assert class_counts(balanced.labels)["malignant"] > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_class_is_already_balanced(sampler):
    pixels, labels, training = phantom_site()
    training = training[labels[training] == 0]
    balanced = balance(pixels, labels, training, sampler, 0)
    np.testing.assert_array_equal(balanced.rows, training)
    assert len(balanced.synthetic) == 0


@pytest.mark.parametrize("sampler", RESAMPLERS)
def test_the_seed_decides(sampler):
    pixels, labels, training = phantom_site()
    large = 2**62 + 5  # derived seeds have 63 bits
    first = balance(pixels, labels, training, sampler, large)
    assert_equal(first, balance(pixels, labels, training, sampler, large))
    other = balance(pixels, labels, training, sampler, large + 1)
    assert not np.array_equal(items(first, pixels), items(other, pixels))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_outside_training_change_nothing(sampler):
    pixels, labels, training = phantom_site()
    before = balance(pixels, labels, training, sampler, 3)
    outside = np.setdiff1d(np.arange(len(labels)), training)
    other_pixels, other_labels = pixels.copy(), labels.copy()
    other_pixels[outside] = 255 - other_pixels[outside]
    other_labels[outside] = (other_labels[outside] + 1) % 3
    assert_equal(before, balance(other_pixels, other_labels, training, sampler, 3))


def test_memory_mapped_pixels_give_the_same(tmp_path):
    pixels, labels, training = phantom_site()
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    assert_equal(balance(mapped, labels, training, "smote", 3), balance(pixels, labels, training, "smote", 3))


@pytest.mark.parametrize("sampler", ["smote", "adasyn", "smote-tomek", "smote-enn"])
def test_too_few_neighbours_are_refused_with_class_count_and_remedy(sampler):
    pixels, labels, training = phantom_site(counts=(24, 12, 5))
    with pytest.raises(SettingsError, match=r"6 training rows.*normal has 5.*ros"):
        balance(pixels, labels, training, sampler, 0)
    assert balance(*phantom_site(counts=(24, 12, 6)), sampler, 0).labels.shape[0] > 42


def test_adasyn_on_classes_far_apart_is_refused_with_a_remedy():
    labels = np.repeat([0, 1], [20, 10])
    pixels = np.random.default_rng(0).integers(0, 20, (30, 4, 4)).astype(np.uint8)
    pixels[labels == 1] += 200
    with pytest.raises(SettingsError, match=r"adasyn fails on .*'malignant': 10.*smote"):
        balance(pixels, labels, np.arange(30), "adasyn", 0)


def test_unknown_samplers_and_empty_training_sets_are_refused():
    pixels, labels, training = phantom_site()
    with pytest.raises(SettingsError, match=r"'SMOTE'.*smote"):
        balance(pixels, labels, training, "SMOTE", 0)
    with pytest.raises(SettingsError, match="no training rows"):
        balance(pixels, labels, training[:0], "ros", 0)


def test_training_without_a_sampler_does_not_import_imbalanced_learn():
    code = (
        "import sys, numpy as np; from fedbus.training.balance import balance\n"
        "for s in ('none', 'class-weights'):\n"
        "    balance(np.zeros((4, 2, 2), np.uint8), np.array([0, 0, 1, 1]), np.arange(4), s, 0)\n"
        "sys.exit('imblearn' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_class_counts_name_absent_classes():
    assert class_counts(np.array([2, 0, 2])) == {"benign": 1, "malignant": 0, "normal": 2}
    assert class_counts(np.array([], dtype=np.int64)) == {"benign": 0, "malignant": 0, "normal": 0}
