"""The network of a bundle, from normalised images to calibrated probabilities, and its file in each format."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES

Format = Literal["onnx", "torchscript"]

FILES: dict[Format, str] = {"onnx": "model.onnx", "torchscript": "model.pt"}

INPUT, OUTPUT = "images", "probabilities"

Run = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Maps normalised images [N, 3, H, W] to probabilities [N, 3]."""

_TRACED = 2
"""Images of the batch that is traced; a batch of one would fix the size of a batch to one."""


class Network(nn.Module):
    """A classifier with the temperature and the softmax applied; classes that it may not predict get probability 0."""

    absent: Tensor

    def __init__(self, classifier: nn.Module, temperature: float, predicts: tuple[str, ...]) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature
        absent = [0.0 if name in predicts else -torch.inf for name in CLASSES]
        self.register_buffer("absent", torch.tensor(absent))

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 [N, 3, H, W], normalised, to float32 [N, 3]; rows sum to 1."""
        logits: Tensor = self.classifier(images)
        return (logits / self.temperature + self.absent).softmax(dim=1)


def save_network(network: Network, size: int, form: Format, path: Path) -> None:
    """Write a network for batches of any number of images of `size` by `size` pixels.

    Raises:
        Exception: Of any type, if the exporter does not support the architecture.
    """
    example = torch.zeros(_TRACED, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript, which a user can't act on
        if form == "torchscript":
            torch.jit.trace(network, example, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]
            return
        torch.onnx.export(
            network,
            (example,),
            path,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )


def load_network(form: Format, path: Path) -> Run:
    """Load a file that `save_network` wrote, in the runtime that others would use."""
    if form == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated
            script = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        return _runner(script)
    import onnxruntime  # late, because it takes a second

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0], dtype=np.float64)


def run_network(network: Network) -> Run:
    """Return the network itself as a function, to compare with."""
    return _runner(network)


def _runner(module: nn.Module) -> Run:
    @torch.inference_mode()
    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(module(torch.from_numpy(images)).double().numpy())

    return run
