"""Recognise images unlike those that a model was trained on, by the model's own features.

Features are the mean and the standard deviation of each channel of one early feature map. Early, because they describe
texture: the last feature map is trained to tell only lesions apart, and takes photographs for ultrasound images more
often. Those of training images are described by probabilistic PCA (Tipping and Bishop 1999): a Gaussian with the
variances of the leading principal components, and one variance in all other directions. An image is unlike them if its
Mahalanobis distance exceeds a limit, which a stated quantile of the validation images keeps. The description contains
no feature of a single image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.model_folder.apply import AppliedModel
from fedbus.models.state import State

FloatArray = NDArray[np.float64]

COMPONENTS = 32
"""Principal components, at most; also at most half of the training images."""

QUANTILE = 0.99
"""Share of the validation images whose distance is within the limit."""

_PARTS = ("mean", "components", "variances", "limit")


@dataclass(frozen=True, eq=False)
class KnownFeatures:
    """The distribution of features of training images, under one choice of a model's arrays.

    Attributes:
        mean: float64 [D].
        components: float64 [K, D], orthonormal.
        variances: float64 [K + 1], along each component, and in every other direction.
        limit: The largest distance of an image that is not unlike them.
    """

    mean: FloatArray
    components: FloatArray
    variances: FloatArray
    limit: float = np.inf

    @classmethod
    def fit(cls, features: FloatArray) -> "KnownFeatures":
        """Fit probabilistic PCA by maximum likelihood to the features of training images, [N, D] with N > 2."""
        mean = features.mean(axis=0)
        _, lengths, directions = np.linalg.svd(features - mean, full_matrices=False)
        variances = lengths**2 / (len(features) - 1)
        count = min(COMPONENTS, len(features) // 2, features.shape[1] - 1)
        rest = variances[count:].sum() / (features.shape[1] - count)
        return cls(mean, directions[:count], np.maximum([*variances[:count], rest], 1e-12))

    def distances(self, features: FloatArray) -> FloatArray:
        """Return the squared Mahalanobis distance of each row of features [N, D], divided by D."""
        centred = features - self.mean
        along = centred @ self.components.T
        outside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squared: FloatArray = (along**2 / self.variances[:-1]).sum(axis=1) + outside / self.variances[-1]
        return np.asarray(squared / features.shape[1])

    def with_limit(self, limit: float) -> "KnownFeatures":
        """Return the same distribution with another limit."""
        return replace(self, limit=limit)

    def to_tensors(self, key: str) -> State:
        """Return the tensors of the file, under names that begin with `key`."""
        values = (self.mean, self.components, self.variances, np.array([self.limit]))
        return {
            f"{key}/{part}": torch.from_numpy(np.ascontiguousarray(value)).to(torch.float32)
            for part, value in zip(_PARTS, values, strict=True)
        }

    @classmethod
    def from_tensors(cls, key: str, tensors: State) -> "KnownFeatures":
        """Read what `to_tensors` returned."""
        mean, components, variances, limit = (tensors[f"{key}/{part}"].double().numpy() for part in _PARTS)
        return cls(mean, components, variances, float(limit[0]))


SHARED = "shared"
"""The key of the distribution under shared arrays."""


def features_key(model: AppliedModel, site: str | None) -> str:
    """Name the distribution that fits a model's arrays: those of a site, shared ones, or adapted ones."""
    return f"own/{site}" if model.arrays == "own" else model.arrays


def known_features(model: AppliedModel, site: str | None) -> KnownFeatures | None:
    """Read the distribution that fits a model's arrays; None if its folder has none.

    Raises:
        RunError: If the file is damaged.
    """
    stored = model.folder.facts.features
    if stored is None:
        return None
    tensors, key = model.folder.load(stored.part), features_key(model, site)
    return KnownFeatures.from_tensors(key, tensors) if f"{key}/mean" in tensors else None


class FeatureWatch:
    """Collects the features of the images that a model predicts meanwhile."""

    def __init__(self, channels: int) -> None:
        self._batches: list[Tensor] = []
        self._channels = channels

    def take(self) -> FloatArray:
        """Return the features of the images since the last call, [N, D], and forget them."""
        features = torch.cat(self._batches).double().cpu().numpy()
        self._batches = []
        return features

    def add(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Note a feature map: [N, C, H, W], or of a transformer [N, tokens, C] or [N, H, W, C]."""
        maps = output.detach().float()
        channels_first = output.ndim == 4 and output.shape[1] == self._channels
        places = maps.flatten(2).transpose(1, 2) if channels_first else maps.flatten(1, -2)
        self._batches.append(torch.cat([places.mean(dim=1), places.std(dim=1, correction=0)], dim=1))


@contextmanager
def watch_features(module: nn.Module) -> Iterator[FeatureWatch | None]:
    """Collect features while a model predicts; None for a model that does not declare its feature maps."""
    layer = _early_layer(module)
    if layer is None:
        yield None
        return
    watch = FeatureWatch(layer[1])
    hook = module.get_submodule(layer[0]).register_forward_hook(watch.add)
    try:
        yield watch
    finally:
        hook.remove()


def _early_layer(module: nn.Module) -> tuple[str, int] | None:
    """Return name and channels of the second feature map that timm declares, after the first stage of most models."""
    declared = getattr(module, "feature_info", None)
    try:
        found = list(declared or ())[1]
        module.get_submodule(found["module"])
    except (IndexError, KeyError, TypeError, AttributeError):
        return None
    return str(found["module"]), int(found["num_chs"])
