"""DICOM files written with pydicom, for tests only, with encoders that the package does not need."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from tests.archives import write_table


def write_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write pixels uncompressed: [H, W], [H, W, 3] or, with NumberOfFrames, [N, H, W] or [N, H, W, 3]."""
    file = _describe(pixels, tags)
    file.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    file["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return _save(file, path, tags)


def write_compressed(path: Path, pixels: np.ndarray, syntax: str, streams: list[bytes], **tags: Any) -> Path:
    """Write already compressed frames of these pixels."""
    file = _describe(pixels, tags)
    file.PixelData = encapsulate(streams)
    file["PixelData"].is_undefined_length = True
    return _save(file, path, {"TransferSyntaxUID": syntax} | tags)


def write_rle(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write pixels compressed by pydicom's own RLE."""
    file = dcmread(write_dicom(path, pixels, **tags))
    file.compress(uid.RLELossless, encoding_plugin="pydicom")
    file.save_as(path)
    return path


def region(corners: tuple[Any, ...], kind: int = 1, space: int = 1) -> Dataset:
    """An item of SequenceOfUltrasoundRegions; corners are its first and last column and row: x0, y0, x1, y1."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = space, kind
    for name, corner in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), corners, strict=True):
        setattr(item, f"RegionLocation{name}", corner)
    return item


def jpeg(pixels: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    """Baseline JPEG by Pillow."""
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "JPEG", **options)
    return out.getvalue()


def jpeg_2000(pixels: np.ndarray, **options: Any) -> bytes:
    """A JPEG 2000 stream by Pillow, lossless by default."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG2000", no_jp2=True, **options)
    return out.getvalue()


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    """Lossless JPEG (ITU-T T.81 annex H, first-order prediction) of uint8 [H, W] or [H, W, 3].

    All twelve of its Huffman codes are four bits long, as a difference of 8-bit values has at most nine bits.
    """
    samples = pixels.reshape(*pixels.shape[:2], -1).astype(int)
    height, width, count = samples.shape
    predicted = np.roll(samples, 1, axis=1)
    predicted[1:, 0], predicted[0, 0] = samples[:-1, 0], 128
    bits = []
    for difference in (samples - predicted).ravel():
        length = int(abs(difference)).bit_length()
        bits.append(f"{length:04b}")
        if length:
            bits.append(f"{difference if difference > 0 else difference + 2**length - 1:0{length}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    coded = int(text, 2).to_bytes(len(text) // 8).replace(b"\xff", b"\xff\0")
    table = bytes([0, 0, 0, 0, 12, *[0] * 12, *range(12)])
    components = b"".join(bytes([i, 0x11, 0]) for i in range(1, count + 1))
    frame = bytes([8]) + height.to_bytes(2) + width.to_bytes(2) + bytes([count]) + components
    scan = bytes([count]) + b"".join(bytes([i, 0]) for i in range(1, count + 1)) + bytes([1, 0, 0])
    segments = b"".join(
        bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content
        for marker, content in ((0xC4, table), (0xC3, frame), (0xDA, scan))
    )
    return b"\xff\xd8" + segments + coded + b"\xff\xd9"


def make_dicom_csv(root: Path, rows: list[tuple[str, ...]], header: str = "file,label,patient,frame") -> Path:
    """Write labels.csv beside DICOM files."""
    write_table(root / "labels.csv", header.split(","), rows)
    return root


def _describe(pixels: np.ndarray, tags: dict[str, Any]) -> Dataset:
    frame = pixels[0] if "NumberOfFrames" in tags else pixels
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID = uid.UltrasoundImageStorage, "1.2.3.4"
    file.Rows, file.Columns = frame.shape[:2]
    file.SamplesPerPixel = 3 if frame.ndim == 3 else 1
    file.PhotometricInterpretation = "RGB" if frame.ndim == 3 else "MONOCHROME2"
    if frame.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        if name != "TransferSyntaxUID":
            setattr(file, name, value)
    file.HighBit = file.BitsStored - 1
    return file


def _save(file: Dataset, path: Path, tags: dict[str, Any]) -> Path:
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = tags.get("TransferSyntaxUID", uid.ExplicitVRLittleEndian)
    path.parent.mkdir(parents=True, exist_ok=True)
    private = {"implicit_vr": False, "little_endian": True} if file.file_meta.TransferSyntaxUID.is_private else {}
    file.save_as(path, enforce_file_format=True, **private)
    return path
