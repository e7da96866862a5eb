"""Golden images: decoded and resized pixels are those of earlier versions, byte for byte.

The pixel cache is keyed by the contents of the files, the size and `DECODER`, not by the versions of Pillow, NumPy and
pydicom. If one of them changed its pixels, a comparison could mix images of two decoders, and figures of a fixed seed
would change without a word.

When a test here fails after an upgrade: look at the changed pixels. If the new ones are right, change `DECODER` in
`fedbus/images/decode.py` (so that nothing is read from old caches), replace the digests below, and say so in the
change log. If only a hash changed, change `DECODER` too: hashes are stored under the same key.

The digests do not depend on the processor. Conversion to grey and resizing are integer arithmetic in Pillow. The JPEG
decoder is libjpeg-turbo with its default integer DCT ("islow"), whose SIMD code gives the same bytes as its C code
(environment variable JSIMD_FORCENONE=1). DICOM windows are sums, products and quotients of 64-bit floats, rounded to
integers: the same on every processor that follows IEEE 754. Left out are a sigmoid window (its `exp` may differ) and
YBR colour in DICOM (a matrix product).
"""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.images.decode import decode_image, resize_image
from fedbus.images.fingerprint import perceptual_hash
from tests.dicoms import region, write_dicom, write_rle

SIDE = 24


def pattern(height: int = 40, width: int = 48, levels: int = 256) -> np.ndarray:
    """Integers of [0, levels), smooth and rough, without a random generator."""
    y, x = np.mgrid[:height, :width]
    return (x * x * 3 + y * y * 5 + x * y * 7 + (x // 6 + y // 5) % 2 * levels // 3) % levels


def colour() -> np.ndarray:
    grey = pattern().astype(np.uint8)
    return np.stack([grey, grey.T.reshape(grey.shape), 255 - grey], axis=2)


def write_png(path: Path) -> None:
    Image.fromarray(pattern().astype(np.uint8)).save(path)


def write_colour_png(path: Path) -> None:
    Image.fromarray(np.dstack([colour(), pattern().astype(np.uint8)])).save(path)  # with transparency


def write_palette_png(path: Path) -> None:
    image = Image.frombytes("P", (48, 40), (pattern() % 16).astype(np.uint8).tobytes())
    image.putpalette([(37 * i) % 256 for i in range(48)])
    image.save(path)


def write_grey_jpeg(path: Path) -> None:
    path.write_bytes(base64.b64decode(GREY_JPEG))


def write_colour_jpeg(path: Path) -> None:
    path.write_bytes(base64.b64decode(COLOUR_JPEG))


def write_window_dicom(path: Path) -> None:
    write_dicom(path, pattern(levels=4096).astype(np.uint16), BitsStored=12, WindowCenter=1500, WindowWidth=2600)


def write_spread_dicom(path: Path) -> None:
    write_dicom(path, (pattern(levels=3000) - 700).astype(np.int16), PhotometricInterpretation="MONOCHROME1")


def write_colour_dicom(path: Path) -> None:
    write_rle(path, colour(), SequenceOfUltrasoundRegions=[region((4, 3, 43, 36))])


GREY_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKB"
    "TmCNl4x9lnN+gXz/wAALCAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAgMB/8QAJhAAAgICAQMCBwAAAAAAAAAAAQIDERIhBAAx"
    "URMyBRQiI0Fhkf/aAAgBAQAAPwCHw/hw8SESIZS7nFJI0NtreIO73Vmqu77Wmb7ZXjh1HsCo9quwfaDZ7g5fk6FWp6okMErxn0AjGgYr"
    "xVfpvRrdUD5qjZONas5XkSYkCZ5GXAaD32B2bAKEV4FC7B6OYW1UjIlmOMls2IIoUKN5b/fqEHp8zkQ8P5WVzHyERSjrG4oao4eN2f6N"
    "DXX/2Q=="
)

COLOUR_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62r"
    "Z4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKT/wAARCAAQABgDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAgAB/8QAJRAAAgECBQMFAAAAAAAAAAAAAQIRACEDEjFBUSJx"
    "sUJhkdHw/8QAFQEBAQAAAAAAAAAAAAAAAAAAAgH/xAAaEQEAAwADAAAAAAAAAAAAAAABAAIRIYHw/9oADAMBAAIRAxEAPwALh4SrCBOq"
    "0r6tNNI2tt5bFs8hzrYA2Ecc/tJosVVM4YsRJUBYF+e31SGG5YrAUAwWA23EX2I7XpKrrJgGTQudSQwLMQAJsOBYH2qo4qFFwyTmBEMh"
    "ym1x8wPNVErextd92RDU40n/2Q=="
)

GOLDEN = {
    write_png: (
        "7056d00f62c3ca5b83cb867e684ba0783763826f29533e762150f542b4b12fb4",
        "1239662bf6c52a919863ded5e4af3d535f6b64e1dbc3f2fb135c6b0c21afa564",
        "d1d5855797715d5ca550edd06c914b3559ac5714cbb74c663539746bdcaa84cd",
    ),
    write_colour_png: (
        "6d34a50d7950e331f7b9cecad80ea7584c22215340c86993e0e35be9d565b165",
        "807f79a57ac938fd319810f40271dbf9ebbfdda3dcdaf6ebbe9d06e5a87ab93f",
        "ead18e56653862588514bcd62c9aceb5d9e4151dc59af6a6b02bd94a8c9352d5",
    ),
    write_palette_png: (
        "7f59e5b9ffc724cf7920dc26d6c5210dade3a7bbfbb9594fbbb23901ab835a47",
        "affb7ae0fa86d13a43c9f886687aec701d68f3b9979f08dd44b4d47fea1caee7",
        "98c928b47566c754185968cb7876866b29b75d95ca75d34591a7a8e9a5e47556",
    ),
    write_grey_jpeg: (
        "5823995321fd2b0b91b47a33ea77dca743afaabc0e74099f3d80d11007ae980e",
        "af37d9ea8cd7c02728d782a6817e84e52c53aa3e1ea043bd0298d4dfe5d5932f",
        "7b89b6d36dabeb17da99355dcb57d1a133db5962513756db42516db059b01a48",
    ),
    write_colour_jpeg: (
        "e0f22738fa884dd295dff1df70d5e30c7427ae2934ea78ca7ffdc6cd39a6c8ff",
        "0d35817b65239ddbbdfd23d55e42568159592f34a0b6182ce6c8de1e8c413962",
        "b7544464a5a4894c56684e5fa9b1da4dd694da52553373296ce9add88d30cd51",
    ),
    write_window_dicom: (
        "738c2ae544f6ccd9eadc2355386d3b086696741d2540884834cc82dbc64940bd",
        "8d2dc4941916a09d04e0f45a98d695ff5204cb7bc7c97d397f9d41a542da3477",
        "6696e6949a5aba53e96be9c6a58cab1bac22acccb189a737d66d9cdd5136a664",
    ),
    write_spread_dicom: (
        "b586beb6f7b090bfc89588631d91b25a3a0788886547b3d394a2f4a21f5c0790",
        "5e578dea14e33ca130defc4c9ceef0e9e6b5f33d94a7931fecf807cb653c45c3",
        "196a194e45884f3916622dcd519bb734c66d9c92116966cbcda7bb5a24b1e9ea",
    ),
    write_colour_dicom: (
        "3d86ba021458c0ce44a6397c2b3f5f06c95b17d54805da8c4bc1ec36e13f6529",
        "d9e24917afd0222573e237bf81d320ead71734778c65d40891fc264b444b276b",
        "ac4b8d16b64dab5e5d2bdcddde9d95963853691fb98dac85ccd55534b1691c8d",
    ),
}
"""SHA-256 of the decoded image, SHA-256 at `SIDE` pixels, and the difference hash, all hexadecimal."""


@pytest.mark.parametrize("write", GOLDEN)
def test_pixels_and_hashes_have_not_changed(write, tmp_path):
    suffix = {"dicom": ".dcm", "jpeg": ".jpg", "png": ".png"}[write.__name__.rpartition("_")[2]]
    path = tmp_path / f"image{suffix}"
    write(path)
    image = decode_image(path)
    found = (
        hashlib.sha256(image.tobytes()).hexdigest(),
        hashlib.sha256(resize_image(image, SIDE).tobytes()).hexdigest(),
        perceptual_hash(image).tobytes().hex(),
    )
    assert found == GOLDEN[write]
