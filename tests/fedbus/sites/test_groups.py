"""Near-duplicates are found, nothing else is, and groups are what pairs and patients join."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fedbus.images.fingerprint import HASH_BYTES, perceptual_hash
from fedbus.sites.groups import Pair, cross_pairs, group_rows, near_pairs

NEAR = 20


def scene(seed: int = 0, size: tuple[int, int] = (200, 160)) -> Image.Image:
    """A smooth random phantom: structure at the scale that images have, and some speckle."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(30, 200, (9, 11), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray(np.clip(smooth + generator.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8))


def bits(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.unpackbits(one) != np.unpackbits(other)).sum())


def recompressed(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    return Image.open(out).convert("L")


def test_a_bit_is_set_if_a_cell_is_brighter_than_its_left_neighbour():
    cells = np.random.default_rng(0).permutation(16 * 17).reshape(16, 17) % 256
    found = np.unpackbits(perceptual_hash(Image.fromarray(cells.astype(np.uint8))))
    np.testing.assert_array_equal(found.reshape(16, 16), cells[:, 1:] > cells[:, :-1])


def test_near_pairs_are_those_of_a_comparison_bit_by_bit():
    generator = np.random.default_rng(1)
    base = generator.integers(0, 256, (8, HASH_BYTES), dtype=np.uint8)
    flips = np.packbits(generator.random((60, 8 * HASH_BYTES)) < generator.uniform(0, 0.12, (60, 1)), axis=1)
    hashes = np.concatenate([base, base[generator.integers(0, 8, 60)] ^ flips])
    expected = [
        (i, j, bits(hashes[i], hashes[j]))
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bits(hashes[i], hashes[j]) <= NEAR
    ]
    assert 20 < len(expected) < 500
    assert any(distance == NEAR for _, _, distance in expected)
    assert [(p.first, p.second, p.distance) for p in near_pairs(hashes, NEAR)] == expected


def plain_pairs(left: np.ndarray, right: np.ndarray, most: int) -> list[Pair]:
    """The definition: every row with every row."""
    distances = (np.unpackbits(left, axis=1)[:, None] != np.unpackbits(right, axis=1)[None]).sum(axis=2)
    return [Pair(int(i), int(j), int(distances[i, j])) for i, j in np.argwhere(distances <= most)]


def related_hashes(seed: int, count: int) -> np.ndarray:
    """Random hashes; many are others of them with up to 70 bits flipped, some in one stretch, or the same."""
    generator = np.random.default_rng(seed)
    spread = generator.integers(0, 2, (count, 8 * HASH_BYTES), dtype=np.uint8)
    for row in range(1, count):
        flips, start = int(generator.integers(0, 70)) if row % 10 else 0, int(generator.integers(0, 180))
        change = generator.permutation(256)[:flips] if row % 2 else np.arange(start, start + flips)
        if row % 3:
            spread[row] = spread[generator.integers(0, row)]
            spread[row, change] ^= 1
    spread[:: max(1, count // 4), : 8 * 20] = 0  # black at the top: much in common, and not near
    return np.packbits(spread, axis=1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [0, 1, 3, 5, 12, 20, 31, 32, 33, 64, 256])
def test_every_pair_within_the_threshold_is_found_once_and_in_order(seed, most):
    hashes = related_hashes(seed, 90)
    left, right = hashes[:50], hashes[30:]
    expected = plain_pairs(hashes, hashes, most)
    assert near_pairs(hashes, most) == [pair for pair in expected if pair.first < pair.second]
    assert cross_pairs(left, right, most) == plain_pairs(left, right, most)
    assert len(expected) > len(hashes)


@pytest.mark.parametrize("most", [0, 20, 64])
def test_no_rows_have_no_pairs(most):
    none, some = np.empty((0, HASH_BYTES), dtype=np.uint8), related_hashes(0, 5)
    assert near_pairs(none, most) == cross_pairs(none, some, most) == cross_pairs(some, none, most) == []
    assert near_pairs(some[:1], most) == []


def test_near_pairs_of_a_slice_of_a_wider_array():
    wide = np.random.default_rng(2).integers(0, 256, (6, 2 * HASH_BYTES), dtype=np.uint8)
    wide[4, :HASH_BYTES] = wide[1, :HASH_BYTES]
    assert near_pairs(wide[:, :HASH_BYTES], 0) == [Pair(1, 4, 0)]


def test_cross_pairs_count_rows_of_both_sides():
    generator = np.random.default_rng(3)
    left, right = (generator.integers(0, 256, (n, HASH_BYTES), dtype=np.uint8) for n in (4, 3))
    right[2] = left[1]
    right[2, 0] ^= 0b101
    assert cross_pairs(left, right, 2) == [Pair(1, 2, 2)]
    assert cross_pairs(left, right, 1) == []
    assert len(cross_pairs(left, right, 256)) == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.copy(),
        lambda p: p.resize((150, 120), Image.Resampling.LANCZOS),
        lambda p: p.resize((400, 320)),
        lambda p: p.resize((140, 160)),
        lambda p: ImageEnhance.Brightness(p).enhance(1.2),
        lambda p: ImageEnhance.Contrast(p).enhance(0.7),
        recompressed,
    ],
    ids=["same", "smaller", "larger", "squashed", "brighter", "flatter", "jpeg"],
)
@pytest.mark.parametrize("seed", range(4))
def test_altered_copies_of_an_image_are_near(change, seed):
    assert bits(perceptual_hash(scene(seed)), perceptual_hash(change(scene(seed)))) <= NEAR


def test_identical_images_have_identical_hashes():
    assert bits(perceptual_hash(scene()), perceptual_hash(scene())) == 0


def test_other_images_and_mirrored_ones_are_far():
    hashes = np.stack([perceptual_hash(scene(seed)) for seed in range(40)])
    assert near_pairs(hashes, 60) == []
    mirrored = perceptual_hash(scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert bits(perceptual_hash(scene()), mirrored) > 60


def test_independent_noise_is_never_near():
    generator = np.random.default_rng(4)
    noise = [Image.fromarray(generator.integers(0, 256, (48, 40), dtype=np.uint8)) for _ in range(150)]
    assert near_pairs(np.stack([perceptual_hash(image) for image in noise]), 64) == []


def test_pairs_join_rows_transitively_and_names_follow_first_appearance():
    assert group_rows([None] * 6, [Pair(1, 3, 0), Pair(3, 5, 9)]) == [
        "g0001",
        "g0002",
        "g0003",
        "g0002",
        "g0004",
        "g0002",
    ]


def test_a_patient_joins_rows_and_a_pair_joins_patients():
    patients = ["a", "b", "a", None, "c", "b"]
    assert group_rows(patients, []) == ["g0001", "g0002", "g0001", "g0003", "g0004", "g0002"]
    assert group_rows(patients, [Pair(2, 5, 3)]) == ["g0001", "g0001", "g0001", "g0002", "g0003", "g0001"]


def test_groups_are_the_components_that_a_search_finds():
    generator = np.random.default_rng(5)
    for _ in range(30):
        count = int(generator.integers(1, 40))
        patients = [None if p == 0 else f"p{p}" for p in generator.integers(0, 15, count)]
        pairs = [
            Pair(int(min(e)), int(max(e)), 0) for e in generator.integers(0, count, (count // 3, 2)) if e[0] != e[1]
        ]
        linked = {row: {row} for row in range(count)}
        for first, second in [(p.first, p.second) for p in pairs] + [
            (i, j) for i in range(count) for j in range(i) if patients[i] and patients[i] == patients[j]
        ]:
            merged = linked[first] | linked[second]
            for row in merged:
                linked[row] = merged
        names = group_rows(patients, pairs)
        assert all((names[i] == names[j]) == (j in linked[i]) for i in range(count) for j in range(count))


def test_no_rows_make_no_groups():
    assert group_rows([], []) == []
