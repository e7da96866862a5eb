"""Decoding an archive: the values, the cache, and pictures that can't be used."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus import pixels as pixels_module
from fedbus.datasets import read_archive
from fedbus.duplicates import perceptual_hash
from fedbus.errors import ImageError
from fedbus.manifest import Manifest
from fedbus.pixels import decode_archive
from tests.archives import make_class_folders, make_picture


@pytest.fixture
def archive(tmp_path) -> Path:
    return make_class_folders(tmp_path / "north")


def manifest_of(archive: Path) -> Manifest:
    return read_archive("class-folders", archive, "north")


def no_decoding(*_: object) -> None:
    raise AssertionError("a picture was decoded again")


def test_values_are_those_of_pillow_itself(archive, tmp_path):
    manifest = manifest_of(archive)
    pixels = decode_archive(manifest, 24, tmp_path / "cache")
    assert pixels.images.shape == (len(manifest.rows), 24, 24)
    assert pixels.images.dtype == np.uint8
    for i, row in enumerate(manifest.rows):
        with Image.open(archive / row.path) as picture:
            grey = picture.convert("L")
            np.testing.assert_array_equal(pixels.images[i], np.asarray(grey.resize((24, 24), Image.BILINEAR)))
            np.testing.assert_array_equal(pixels.hashes[i], perceptual_hash(grey))


def test_digests_are_equal_exactly_where_pictures_are(archive, tmp_path):
    with Image.open(archive / "Benign" / "0.png") as picture:
        picture.save(archive / "Benign" / "copy.bmp")  # another file, the same picture
        turned = np.asarray(picture).reshape(picture.width, picture.height)  # the same bytes, another shape
        Image.fromarray(turned).save(archive / "Benign" / "turned.png")
    manifest = manifest_of(archive)
    digests = decode_archive(manifest, 16, tmp_path / "cache").digests
    of = {row.path: digests[i].tobytes() for i, row in enumerate(manifest.rows)}
    assert of["Benign/copy.bmp"] == of["Benign/0.png"]
    assert len(set(of.values())) == len(of) - 1


def test_a_second_call_decodes_nothing_and_maps_the_same_file(archive, tmp_path, monkeypatch):
    manifest = manifest_of(archive)
    told: list[int] = []
    first = decode_archive(manifest, 16, tmp_path / "cache", told.append)
    assert sum(told) == len(manifest.rows)
    monkeypatch.setattr(pixels_module, "decode_image", no_decoding)
    second = decode_archive(manifest, 16, tmp_path / "cache", told.append)
    assert sum(told) == 2 * len(manifest.rows)
    assert second.path == first.path
    for name in ("images", "hashes", "digests"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))


def test_decoded_pictures_are_mapped_read_only(archive, tmp_path):
    images = decode_archive(manifest_of(archive), 16, tmp_path / "cache").images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0] = 1


def test_the_cache_follows_contents_and_size_and_not_the_place(archive, tmp_path):
    cache = tmp_path / "cache"
    first = decode_archive(manifest_of(archive), 16, cache)
    assert decode_archive(manifest_of(archive), 24, cache).path != first.path
    moved = archive.rename(tmp_path / "moved")
    assert decode_archive(manifest_of(moved), 16, cache).path == first.path
    make_picture(np.random.default_rng(99)).save(moved / "Benign" / "0.png")
    changed = decode_archive(manifest_of(moved), 16, cache)
    assert changed.path != first.path
    assert not np.array_equal(changed.images[0], first.images[0])


def test_another_decoder_does_not_reuse_the_cache(archive, tmp_path, monkeypatch):
    first = decode_archive(manifest_of(archive), 16, tmp_path / "cache")
    monkeypatch.setattr(pixels_module, "DECODER", "grey-2")
    assert decode_archive(manifest_of(archive), 16, tmp_path / "cache").path != first.path


def test_all_unusable_pictures_are_named_at_once_and_nothing_is_written(archive, tmp_path):
    truncated = archive / "Benign" / "0.png"
    truncated.write_bytes(truncated.read_bytes()[:300])
    (archive / "Malignant" / "1.png").write_bytes(b"")
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 48)).astype(np.uint16)
    Image.fromarray(deep).save(archive / "Normal" / "2.png")
    with pytest.raises(ImageError) as caught:
        decode_archive(manifest_of(archive), 16, tmp_path / "cache")
    message = str(caught.value)
    for words in ("3 picture(s) of north", "Benign/0.png", "Malignant/1.png is an empty file", "Normal/2.png has more"):
        assert words in message
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_is_decoded_again(archive, tmp_path):
    first = decode_archive(manifest_of(archive), 16, tmp_path / "cache")
    expected = np.array(first.images)
    digest = hashlib.sha256(first.path.read_bytes()).hexdigest()
    first.path.write_bytes(first.path.read_bytes()[:200])
    again = decode_archive(manifest_of(archive), 16, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, expected)
    assert hashlib.sha256(again.path.read_bytes()).hexdigest() == digest
