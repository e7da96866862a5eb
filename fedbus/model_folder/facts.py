"""The content of `model.json`: all that applying a model needs, and where it comes from."""

import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from fedbus.classes import CLASSES
from fedbus.evaluation.calibration import Calibration
from fedbus.models.batch_norm import OWN_PARTS, own_names
from fedbus.models.build import model_shapes
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings

FORMAT = 1
"""Version of the format; it grows when a reader of the former version would misread a folder."""


class Part(BaseModel):
    """One file of a model folder.

    Attributes:
        file: Path relative to the folder, with forward slashes.
        sha256: SHA-256 of the file, hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or not path.parts:
            raise ValueError(f"{value!r} is not a file of the folder")
        return value


class SiteFacts(BaseModel):
    """What a model folder records about a site that took part in the training.

    Attributes:
        images: Distinct training images of each class.
        own: The arrays that the site does not share, in place of the shared ones; None if it uses the shared model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: dict[str, int]
    own: Part | None = None


class FalseAlarms(BaseModel):
    """How many of a site's test images are wrongly found unlike the training images.

    Attributes:
        images: Test images.
        flagged: Those of them that are found unlike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    flagged: int


class FeatureFacts(BaseModel):
    """The test for images unlike those of the training (`fedbus.model_folder.features`).

    Attributes:
        part: The distribution of the features of training images.
        quantile: Share of the validation images that the limit keeps.
        false_alarms: Of each site, for each choice of arrays: `shared`, `own/SITE` or `adapted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: Part
    quantile: float
    false_alarms: dict[str, dict[str, FalseAlarms]]


class ModelFacts(BaseModel):
    """The content of `model.json`.

    Attributes:
        format: `FORMAT`.
        fedbus: Version that wrote the folder.
        arm: The arm of the comparison.
        seed: The training seed.
        run: `fedbus.runs.folder.run_id` of the run.
        phantoms: Whether the model was trained on synthetic images.
        classes: Outputs of the model, in their order.
        predicts: The classes that it may predict; the others get probability 0.
        architecture: A timm classifier.
        image_size: Width and height of its input, in pixels.
        burned_in: Whether burned-in annotations are painted over before it sees an image (`masked`).
        precision: Number format of matrix products, as the setting.
        batch_norm: The policy of BatchNorm in training, as the setting.
        near_bits: Differing bits up to which two images are near-duplicates, as the setting.
        weights: The shared arrays; None if each site has a model of its own.
        sites: The sites that it was trained at.
        seen: Fingerprints of the images and patients that it was trained or chosen on; None if they are not known.
        seen_in_part: Whether these are only those of the site that received the model.
        features: The test for images unlike those of the training; None if the model has none.
        calibration: Temperature and threshold from validation images.
        settings: All settings of the run that do not name a folder, a site or a machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1  # FORMAT
    fedbus: str
    arm: str
    seed: int
    run: str
    phantoms: bool
    classes: tuple[str, ...]
    predicts: tuple[str, ...]
    architecture: str
    image_size: int = Field(ge=32, le=1024)
    burned_in: Literal["kept", "masked"]
    precision: Literal["auto", "float32", "bfloat16"]
    batch_norm: str
    near_bits: int = Field(ge=0, le=64)
    weights: Part | None
    sites: dict[str, SiteFacts]
    seen: Part | None = None
    seen_in_part: bool = False
    features: FeatureFacts | None = None
    calibration: Calibration | None = None
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.classes != CLASSES:
            raise ValueError(f"its classes are {', '.join(self.classes)}, not {', '.join(CLASSES)}")
        if not self.predicts or not set(self.predicts) <= set(self.classes):
            raise ValueError(f"it predicts {', '.join(self.predicts) or 'no class'}")
        if self.weights is None and not all(site.own for site in self.sites.values()):
            raise ValueError("it has neither shared weights nor a model of each site")
        return self

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        arm: str,
        seed: int,
        run: str,
        phantoms: bool,
        predicts: Iterable[int] | None,
        weights: Part | None,
        sites: Mapping[str, SiteFacts],
        **others: Any,
    ) -> Self:
        """Describe a model that was trained with these settings.

        Args:
            settings: Settings of the run.
            arm: As the attribute.
            seed: As the attribute.
            run: As the attribute.
            phantoms: As the attribute.
            predicts: The classes that it may predict, as positions in `CLASSES`; None: all.
            weights: As the attribute.
            sites: As the attribute.
            **others: Further attributes, in place of those that follow from the settings or the defaults.
        """
        known = range(len(CLASSES)) if predicts is None else predicts
        values = {
            "fedbus": metadata.version("fedbus"),
            "arm": arm,
            "seed": seed,
            "run": run,
            "phantoms": phantoms,
            "classes": CLASSES,
            "predicts": tuple(CLASSES[index] for index in known),
            "architecture": settings.model,
            "image_size": settings.image_size,
            "burned_in": settings.burned_in,
            "precision": settings.precision,
            "batch_norm": _policy(settings),
            "near_bits": settings.near_bits,
            "weights": weights,
            "sites": dict(sites),
            "settings": json.loads(settings.for_sites()),
        }
        return cls.model_validate(values | others)

    @property
    def complete(self) -> bool:
        """Whether the shared arrays make a model without those of a site."""
        return self.weights is not None and self.batch_norm not in OWN_PARTS

    @property
    def parts(self) -> list[Part]:
        """All files of the folder but `model.json`."""
        own = [site.own for site in self.sites.values()]
        features = self.features.part if self.features else None
        return [part for part in (self.weights, *own, self.seen, features) if part]

    def to_settings(self, device: str = "auto") -> Settings:
        """Return the settings that reading images and applying the model need."""
        return build_settings(
            {
                "model": self.architecture,
                "image-size": self.image_size,
                "burned-in": self.burned_in,
                "precision": self.precision,
                "near-bits": self.near_bits,
                "device": device,
            },
            MODEL_FILE,
        )


def _policy(settings: Settings) -> str:
    """Return the policy of BatchNorm; without BatchNorm in the architecture, no array stays at the sites."""
    kept = own_names(settings.batch_norm, model_shapes(settings.model)) if settings.batch_norm in OWN_PARTS else [""]
    return settings.batch_norm if kept else "average"
