"""Decoding a dataset: the values, the cache, and images that can't be used."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ImageError, RunError
from fedbus.images.burned_in import find_annotations, paint_over
from fedbus.images.fingerprint import perceptual_hash
from fedbus.sites import decoding, pixel_cache
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from tests.archives import make_class_folders, make_image


@pytest.fixture
def dataset(tmp_path) -> Path:
    return make_class_folders(tmp_path / "north")


def manifest_of(dataset: Path) -> Manifest:
    return read_dataset("class-folders", dataset, "north")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def no_decoding(*_: object) -> None:
    raise AssertionError("an image was decoded again")


def test_values_are_those_of_pillow_itself(dataset, tmp_path):
    manifest = manifest_of(dataset)
    pixels = decode_dataset(manifest, PixelCache(tmp_path / "cache", 24))
    assert pixels.images.shape == (len(manifest.rows), 24, 24)
    assert pixels.images.dtype == np.uint8
    for i, row in enumerate(manifest.rows):
        with Image.open(dataset / row.path) as image:
            grey = image.convert("L")
            np.testing.assert_array_equal(pixels.images[i], np.asarray(grey.resize((24, 24), Image.BILINEAR)))
            np.testing.assert_array_equal(pixels.hashes[i], perceptual_hash(grey))


def test_digests_are_equal_exactly_where_images_are(dataset, tmp_path):
    with Image.open(dataset / "Benign" / "0.png") as image:
        image.save(dataset / "Benign" / "copy.bmp")  # another file, the same image
        turned = np.asarray(image).reshape(image.width, image.height)  # the same bytes, another shape
        Image.fromarray(turned).save(dataset / "Benign" / "turned.png")
    manifest = manifest_of(dataset)
    digests = decode_dataset(manifest, PixelCache(tmp_path / "cache", 16)).digests
    of = {row.path: digests[i].tobytes() for i, row in enumerate(manifest.rows)}
    assert of["Benign/copy.bmp"] == of["Benign/0.png"]
    assert len(set(of.values())) == len(of) - 1


def test_a_second_call_decodes_nothing_and_maps_the_same_file(dataset, tmp_path, monkeypatch):
    manifest = manifest_of(dataset)
    reported: list[int] = []
    first = decode_dataset(manifest, PixelCache(tmp_path / "cache", 16), reported.append)
    assert sum(reported) == len(manifest.rows)
    monkeypatch.setattr(decoding, "decode_image", no_decoding)
    second = decode_dataset(manifest, PixelCache(tmp_path / "cache", 16), reported.append)
    assert sum(reported) == 2 * len(manifest.rows)
    assert second.path == first.path
    for name in ("images", "hashes", "digests"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))


def test_decoded_images_are_mapped_read_only(dataset, tmp_path):
    images = decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16)).images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0] = 1


def test_the_cache_depends_on_contents_and_size_and_not_on_the_path(dataset, tmp_path):
    cache = tmp_path / "cache"
    first = decode_dataset(manifest_of(dataset), PixelCache(cache, 16))
    assert decode_dataset(manifest_of(dataset), PixelCache(cache, 24)).path != first.path
    moved = dataset.rename(tmp_path / "moved")
    assert decode_dataset(manifest_of(moved), PixelCache(cache, 16)).path == first.path
    make_image(np.random.default_rng(99)).save(moved / "Benign" / "0.png")
    changed = decode_dataset(manifest_of(moved), PixelCache(cache, 16))
    assert changed.path != first.path
    assert not np.array_equal(changed.images[0], first.images[0])


def test_another_decoder_does_not_reuse_the_cache(dataset, tmp_path, monkeypatch):
    first = decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16))
    monkeypatch.setattr(pixel_cache, "DECODER", "grey-2")
    assert decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16)).path != first.path


def test_all_unusable_images_are_named_at_once_and_nothing_is_written(dataset, tmp_path):
    truncated = dataset / "Benign" / "0.png"
    truncated.write_bytes(truncated.read_bytes()[:300])
    (dataset / "Malignant" / "1.png").write_bytes(b"")
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 48)).astype(np.uint16)
    Image.fromarray(deep).save(dataset / "Normal" / "2.png")
    with pytest.raises(ImageError) as caught:
        decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16))
    message = str(caught.value)
    for words in ("3 image(s) of north", "Benign/0.png", "Malignant/1.png is an empty file", "Normal/2.png has more"):
        assert words in message
    assert files_in(tmp_path / "cache") == []


def test_a_damaged_cache_is_decoded_again(dataset, tmp_path):
    first = decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16))
    expected = np.array(first.images)
    digest = hashlib.sha256(first.path.read_bytes()).hexdigest()
    first.path.write_bytes(first.path.read_bytes()[:200])
    again = decode_dataset(manifest_of(dataset), PixelCache(tmp_path / "cache", 16))
    np.testing.assert_array_equal(again.images, expected)
    assert hashlib.sha256(again.path.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("rows", [1, 4, 15, 4096])
def test_the_file_is_the_one_that_numpy_would_save_however_many_rows_are_taken_at_a_time(
    rows, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(decoding, "ROWS_AT_A_TIME", rows)
    manifest = manifest_of(dataset)
    pixels = decode_dataset(manifest, PixelCache(tmp_path / "cache", 24))
    images = [np.asarray(Image.open(dataset / row.path).resize((24, 24), Image.BILINEAR)) for row in manifest.rows]
    np.save(tmp_path / "expected.npy", np.stack(images))
    assert pixels.path.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_the_dataset_is_never_in_memory_as_a_whole(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 2)
    manifest, size = manifest_of(dataset), 1024
    tracemalloc.start()
    try:
        decode_dataset(manifest, PixelCache(tmp_path / "cache", size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(manifest.rows) == 15
    assert peak < 8 * size**2  # each of two threads holds a resized image and its bytes


def test_a_full_disk_is_an_expected_error_and_leaves_nothing(dataset, tmp_path):
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    manifest = manifest_of(dataset)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(RunError, match="could not be written"):
            decode_dataset(manifest, PixelCache(tmp_path / "cache", 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files_in(tmp_path / "cache") == []


def test_masked_images_are_stored_separately_and_grouped_as_the_originals(dataset, tmp_path):
    for path in dataset.rglob("*.png"):
        image = np.array(Image.open(path))
        image[10:20, 10] = 255  # an upright stroke
        Image.fromarray(image).save(path)
    manifest = manifest_of(dataset)
    kept = decode_dataset(manifest, PixelCache(tmp_path / "cache", 48))
    masked = decode_dataset(manifest, PixelCache(tmp_path / "cache", 48, mask_annotations=True))
    assert masked.path != kept.path
    np.testing.assert_array_equal(masked.hashes, kept.hashes)
    np.testing.assert_array_equal(masked.digests, kept.digests)
    for i, row in enumerate(manifest.rows):
        grey = np.asarray(Image.open(dataset / row.path).convert("L"))
        found = find_annotations(grey)
        assert found.any()
        expected = Image.fromarray(paint_over(grey, found)).resize((48, 48), Image.BILINEAR)
        np.testing.assert_array_equal(masked.images[i], np.asarray(expected))


def test_another_detector_does_not_reuse_the_cache_of_masked_images_only(dataset, tmp_path, monkeypatch):
    manifest, cache = manifest_of(dataset), tmp_path / "cache"
    kept, masked = (
        decode_dataset(manifest, PixelCache(cache, 16)),
        decode_dataset(manifest, PixelCache(cache, 16, mask_annotations=True)),
    )
    monkeypatch.setattr(pixel_cache, "DETECTOR", "marks-2")
    assert decode_dataset(manifest, PixelCache(cache, 16)).path == kept.path
    assert decode_dataset(manifest, PixelCache(cache, 16, mask_annotations=True)).path != masked.path
