"""SMOTE followed by cleaning: which images are left is recounted with plain distances."""

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE

from fedbus.classes import class_counts
from fedbus.errors import SettingsError
from fedbus.training.balance import NEIGHBOURS, balance

CLEANING = ("smote-tomek", "smote-enn")


def phantom_site(seed=0):
    """Noise phantoms of two pixels whose classes overlap; every third row is held out."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(3), (60, 30, 24)))
    pixels = random.normal(100 + 20 * labels[:, None, None], 18, (len(labels), 2, 1))
    training = np.flatnonzero(np.arange(len(labels)) % 3 > 0)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, training


def interpolated(pixels, labels, training, seed):
    """What the cleaning starts from: the training images and SMOTE's, as points; and their labels."""
    points = pixels[training].reshape(len(training), -1).astype(np.float32)
    return SMOTE(k_neighbors=NEIGHBOURS, random_state=seed).fit_resample(points, labels[training])


def neighbours(points):
    """The others, nearest first, of every point."""
    wide = points.astype(float)
    distances = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argsort(axis=1)


def recounted(points, labels, sampler):
    """Positions that stay, by the definitions: Tomek links go, and what three neighbours contradict."""
    near = neighbours(points)
    if sampler == "smote-enn":
        return np.flatnonzero((labels[near[:, :3]] == labels[:, None]).all(axis=1))
    nearest = near[:, 0]
    mutual = nearest[nearest] == np.arange(len(points))
    return np.flatnonzero(~(mutual & (labels[nearest] != labels)))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("sampler", CLEANING)
def test_what_is_left_is_what_the_definition_leaves(sampler, seed):
    pixels, labels, training = phantom_site(seed)
    points, point_labels = interpolated(pixels, labels, training, seed)
    stay = recounted(points, point_labels, sampler)
    old, new = stay[stay < len(training)], stay[stay >= len(training)]
    assert len(old) < len(training)  # originals are removed too, else this test shows nothing
    balanced = balance(pixels, labels, training, sampler, seed)
    np.testing.assert_array_equal(balanced.rows, training[old])
    np.testing.assert_array_equal(balanced.labels[: len(old)], labels[balanced.rows])
    assert len(balanced.synthetic) == len(new) == len(balanced.labels) - len(old)
    expected = [
        (int(label), *np.rint(point).astype(int)) for label, point in zip(point_labels[new], points[new], strict=True)
    ]
    found = zip(balanced.labels[len(old) :], balanced.synthetic.reshape(len(new), -1), strict=True)
    assert sorted((int(label), *image.tolist()) for label, image in found) == sorted(expected)


def test_editing_by_neighbours_removes_more_than_tomek_links_do():
    counts = [class_counts(balance(*phantom_site(), sampler, 0).labels) for sampler in ("smote", *CLEANING)]
    smote, tomek, enn = [sum(found.values()) for found in counts]
    assert smote > tomek > enn
    assert all(min(found.values()) > 0 for found in counts)


def test_links_of_interpolated_images_remove_these_too():
    pixels, labels, training = phantom_site(1)
    before = balance(pixels, labels, training, "smote", 1)
    after = balance(pixels, labels, training, "smote-enn", 1)
    assert 0 < len(after.synthetic) < len(before.synthetic)


def test_a_class_that_cleaning_would_remove_entirely_is_refused_with_a_remedy():
    # Along a line, two malignant images are closer to each benign one than any benign one does.
    benign = np.arange(12) * 20
    malignant = np.concatenate([benign[:5] + 5, benign[:5] + 6, benign[5:] + 5])
    pixels = np.concatenate([benign, malignant]).astype(np.uint8).reshape(-1, 1, 1)
    labels = np.repeat([0, 1], [len(benign), len(malignant)])
    with pytest.raises(SettingsError, match=r"smote-enn leaves no training row of benign") as caught:
        balance(pixels, labels, np.arange(len(labels)), "smote-enn", 0)
    assert '"smote"' in caught.value.remedy
    assert "'malignant': 17" in caught.value.problem


@pytest.mark.parametrize("sampler", CLEANING)
def test_far_apart_classes_lose_nothing(sampler):
    labels = np.repeat([0, 1], [20, 10])
    pixels = np.random.default_rng(0).integers(0, 20, (30, 4, 4)).astype(np.uint8)
    pixels[labels == 1] += 200
    balanced = balance(pixels, labels, np.arange(30), sampler, 0)
    np.testing.assert_array_equal(balanced.rows, np.arange(30))
    assert class_counts(balanced.labels) == {"benign": 20, "malignant": 20, "normal": 0}
