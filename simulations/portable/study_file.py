"""The packed study: settings, images, labels, splits and balanced rows in one file, without paths and patients.

Tensors, by name:

    SITE/encoded, SITE/ends              the images, see `simulations.portable.pixels`
    SITE/labels, SITE/groups             one per image; -1 where an image is not used. Groups are numbered at random
    SITE/fold-F/SPLIT                    rows of the split
    SITE/fold-F/seed-S/alone, federated  balanced training rows, for the site's own model and in the federation
    pooled/fold-F/seed-S                 balanced positions in the training rows of all sites, one site after the other
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fedbus.errors import RunError
from fedbus.sites.site import Site
from fedbus.sites.split import SPLITS
from fedbus.system.files import write_whole
from simulations.portable.pixels import decode

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

STUDY_FILE = "study.safetensors"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class PackedStudy:
    """A packed study.

    Attributes:
        values: All settings by field name, defaults included; `sites` has only names.
        folds: The folds that are tested.
        quality: Quality of the images, see `simulations.portable.pixels`.
        tensors: As the module's docstring lists them.
    """

    values: Mapping[str, Any]
    folds: Sequence[int]
    quality: int
    tensors: Mapping[str, NDArray[Any]]

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            RunError: If it can't be written.
        """
        notes = {"settings": self.values, "folds": list(self.folds), "quality": self.quality}
        text = {key: json.dumps(value) for key, value in notes.items()}
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()}
        write_whole(path, lambda temporary: save_file(tensors, temporary, text))

    @classmethod
    def load(cls, path: Path) -> "PackedStudy":
        """Read the file.

        Raises:
            RunError: If it is missing or damaged.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                notes = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            return cls(notes["settings"], notes["folds"], notes["quality"], tensors)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise RunError(f"{path} is not a packed study ({error}).", "Copy it again, or pack it again.") from error

    def settings(self, fold: int) -> "Settings":
        """Return the settings of a fold: an object with the attributes of `Settings`, which itself needs pydantic."""
        return cast("Settings", SimpleNamespace(**{**self.values, "fold": fold}))

    @cached_property
    def _pixels(self) -> dict[str, NDArray[np.uint8]]:
        size = self.values["image_size"]
        return {
            name: decode(self.tensors[f"{name}/encoded"], self.tensors[f"{name}/ends"], size)
            for name in self.values["sites"]
        }

    def sites(self, fold: int) -> dict[str, Site]:
        """Return the sites of a fold; the name of an image is its row number."""
        return {name: self._site(name, fold) for name in self.values["sites"]}

    def _site(self, name: str, fold: int) -> Site:
        labels = self.tensors[f"{name}/labels"].astype(np.int64)
        return Site(
            name,
            self._pixels[name],
            labels,
            groups=self.tensors[f"{name}/groups"].astype(np.str_),
            paths=np.arange(len(labels)).astype(np.str_),
            splits={split: self.tensors[f"{name}/fold-{fold}/{split}"].astype(np.int64) for split in SPLITS},
        )
