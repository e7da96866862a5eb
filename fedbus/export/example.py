"""Classify images with the bundle beside this file: python predict.py IMAGE... (onnxruntime, pillow and numpy)."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if __name__ == "__main__":
    folder = Path(__file__).parent
    bundle = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for path in sys.argv[1:]:
        try:
            grey = ImageOps.exif_transpose(Image.open(path)).convert("RGBA").convert("RGB").convert("L")
        except OSError as error:
            print(path, f"can't be read: {error}", file=sys.stderr)
            continue
        small = grey.resize((bundle["size"], bundle["size"]), Image.Resampling.BILINEAR)
        normalised = (np.asarray(small)[..., None] / 255 - bundle["mean"]) / bundle["std"]
        batch = normalised.transpose(2, 0, 1)[None].astype(np.float32)
        probabilities = session.run(None, {"images": batch})[0][0]
        print(path, dict(zip(bundle["classes"], probabilities.astype(float).round(6).tolist(), strict=True)))
    print(bundle["notice"])
