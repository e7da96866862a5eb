"""Every setting of a comparison in one validated object; `load` reads it from TOML and `--set KEY=VALUE`."""

from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedbus.seeds import derive_seed
from fedbus.settings.arm_rules import check_arms
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.dp_rules import check_differential_privacy
from fedbus.settings.privacy_fields import Clip, Delta, Epsilon, Mode, Unit, UpdateRange
from fedbus.settings.privacy_rules import check_secure_aggregation
from fedbus.settings.site_name import check_site_name
from fedbus.settings.threshold_rule import parse_rule
from fedbus.settings.track import Track
from fedbus.text import is_plain, plain_text

NOT_SENT = (
    "sites", "cache", "weights", "ray_address", "workers", "device", "quorum", "largest_share", "engine", "track",
    "subgroups",
)  # fmt: skip
"""Fields that a hub does not send to its sites: paths, names of sites, and what concerns only one machine."""


def kebab(name: str) -> str:
    """Return the key of a field in TOML and on the command line."""
    return name.replace("_", "-")


class SiteSource(BaseModel):
    """The folder of one site's dataset and the reader that understands it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reader: str
    path: Path


class Settings(BaseModel):
    """The settings of one comparison, immutable and hashable; keys have hyphens in TOML and on the command line."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True, allow_inf_nan=False
    )

    sites: dict[str, SiteSource] = Field({}, description="Datasets by site name. Empty: three phantoms (synthetic).")
    arms: tuple[str, ...] = Field(
        ("local", "centralised", "fedavg", "fedprox"),
        description="Ways of training to compare: local, centralised, any federated strategy, or a strategy followed "
        "by fine-tuning at each site (fedavg-tuned). With -blended (fedavg-blended, centralised-blended), each site "
        "averages the predictions of that arm and of its own model; this needs no training.",
    )
    seeds: tuple[int, ...] = Field((0,), description="Random seeds; every arm is trained once with each.")

    image_size: int = Field(224, ge=32, le=1024, description="Width and height of the model's input, in pixels.")
    near_bits: int = Field(
        20,
        ge=0,
        le=64,
        description="Images are near-duplicates if their 256-bit difference hashes differ in at most this many bits. "
        "0: only equal hashes.",
    )
    folds: int = Field(5, ge=2, le=50, description="Number of folds; one of them is the test set.")
    fold: int = Field(0, ge=0, description="Which fold is the test set, counted from 0.")
    validation_fraction: float = Field(
        0.15, gt=0, le=0.5, description="Share of the images outside the test set that is used for validation."
    )
    split: Literal["groups", "images", "balanced-images"] = Field(
        "groups",
        description="What is split into training, validation and test: groups of related images (a patient, "
        "near-duplicates), single images, or single images after over-sampling. The last two leak test data into "
        "training and exist to measure by how much.",
    )
    split_seed: int = Field(0, ge=0, description="Random seed of the split; independent of the training seeds.")
    limit: int = Field(
        0, ge=0, description="At most this many images per site, in whole groups and from every class. 0: all."
    )
    burned_in: Literal["kept", "masked"] = Field(
        "kept", description="Burned-in annotations (calipers, text): kept, or painted over (masked)."
    )
    phantom_images: int = Field(180, ge=30, le=5000, description="Images per synthetic site, if no sites are given.")

    model: str = Field("resnetv2_50", description="Any timm classifier, by its timm name.")
    weights: str = Field(
        "imagenet",
        description="Start weights: imagenet (timm's pretrained weights), none (random), or the path of a "
        ".safetensors or .pth file.",
    )
    sampler: Literal["ros", "none", "class-weights", "rus", "smote", "adasyn", "smote-tomek", "smote-enn"] = Field(
        "ros",
        description="How the classes of the training images are balanced: random over-sampling (ros), random "
        "under-sampling (rus), weights in the loss (class-weights), a synthetic method, or not at all (none).",
    )
    balance: Literal["site", "federation"] = Field(
        "site",
        description="To which class sizes a site over-samples: each class to the site's largest (site), or each by the "
        "factor that equalises the classes of all sites together (federation).",
    )
    missing_classes: Literal["mask", "plain", "restricted", "softened", "balanced", "distil"] = Field(
        "mask",
        description="What a site's loss does with classes the site lacks: leave them out (mask), treat them like any "
        "other (plain), scale their logits (restricted), penalise their probability in part (softened), give them a "
        "small prior (balanced), or keep them close to the incoming model's predictions (distil).",
    )
    missing_strength: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Parameter of missing-classes, from 0 to 1. restricted: the factor of the missing classes' logits; "
        "softened: 0 equals mask, 1 equals plain; distil: the weight of its loss. Unused otherwise.",
    )
    head: Literal["average", "by-class"] = Field(
        "average",
        description="How the classifier is aggregated: averaged like all other weights, or each class's row averaged "
        "only over the sites that have the class (by-class).",
    )
    batch_norm: Literal["average", "frozen", "local", "local-statistics", "pooled"] = Field(
        "average",
        description="BatchNorm layers: averaged like all other weights; running statistics fixed to those of the start "
        "weights (frozen); never shared (local); running statistics never shared (local-statistics); or running "
        "statistics combined over sites, including the variance between sites (pooled).",
    )
    recalibrate: bool = Field(
        False,
        description="Whether each site estimates BatchNorm's running statistics again, from its own training images, "
        "before a trained model is scored there.",
    )

    rounds: int = Field(12, ge=1, le=10_000, description="Number of federated rounds.")
    local_epochs: float = Field(
        1.0, gt=0, le=100, description="Passes over a site's balanced training images per round."
    )
    steps_per_round: int = Field(
        0, ge=0, le=100_000, description="Optimiser steps of each site per round. 0: as many as local-epochs takes."
    )
    batch_size: int = Field(32, ge=2, le=4096, description="Images per optimiser step.")
    batches: Literal["equal", "proportional"] = Field(
        "equal",
        description="Batches of the sites: batch-size images at each, and steps by its own images (equal); or the same "
        "number of steps at each, with its share of batch-size as its batch and its weight (proportional).",
    )
    optimiser_state: Literal["reset", "kept"] = Field(
        "reset", description="A site's optimiser state at the start of a round: reset, or kept from the last round."
    )
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="The optimiser of every site.")
    learning_rate: float = Field(3e-4, gt=0, le=10, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Weight decay of the optimiser. 0: none.")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Learning rate after the warm-up: falling along a cosine, or constant."
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of all steps in which the learning rate rises. 0: none.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing of the loss. 0: none.")
    augmentation: bool = Field(True, description="Whether training images are randomly transformed.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of matrix products. auto: bfloat16 where the hardware multiplies it natively.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one, else the CPU.")

    proximal_mu: float = Field(
        0.1, ge=0, le=100, description="FedProx's mu, the weight of its proximal term. 0: equal to fedavg."
    )
    site_weights: Literal["distinct", "balanced", "equal"] = Field(
        "distinct",
        description="A site's weight in the average: its number of distinct training images, its number of balanced "
        "training images, or the same for every site.",
    )
    strategy_options: dict[str, dict[str, float | int | bool]] = Field(
        {}, description="Arguments of Flower's strategies, by arm; for example strategy-options.fedadam.eta."
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="Which weights of an arm are tested: those of the round with the lowest validation loss, averaged "
        "over classes, then sites (best), or of the last round.",
    )
    threshold: str = Field(
        "sensitivity=0.95",
        description="Rule by which the threshold for malignant is chosen on validation images: the highest with this "
        "sensitivity (sensitivity=0.95), the lowest with this specificity (specificity=0.9), or the largest sum of "
        "both (youden). It affects no training.",
    )
    quorum: int = Field(0, ge=0, description="Number of sites whose updates a round needs. 0: all sites.")
    largest_share: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Between hospitals, the largest share of all images that one site may claim to have; a run with a "
        "larger one is refused. Without effect in simulations.",
    )
    round_timeout: float = Field(3600, gt=0, description="How long a round waits for its sites, in seconds.")
    update_limit: float = Field(
        10,
        gt=0,
        description="An update is refused if it changes the model by more than this many times the model's norm.",
    )
    privacy: Mode = "none"
    update_range: UpdateRange = 4
    dp_epsilon: Epsilon = 0
    dp_delta: Delta = 1e-5
    dp_clip: Clip = 1.0
    dp_unit: Unit = "patient"

    engine: Literal["flower", "in-process"] = Field(
        "flower",
        description="What simulates the federation: Flower's messages and Ray's workers (flower), or a plain loop over "
        "the sites in one process, with the same results for fedavg and fedprox (in-process).",
    )
    payload: Literal["dict", "flat", "flat-fp16"] = Field(
        "flat",
        description="How models are sent: one array per parameter (dict), or one array in full (flat) or half "
        "precision (flat-fp16: the hub's own model stays in full, and sites send their changes to what they received).",
    )
    workers: int = Field(
        0, ge=0, description="Sites that train at a time in a simulation. 0: one; on a GPU up to 3, one for each 16 GB."
    )
    ray_address: str = Field(
        "", description="HOST:PORT of a Ray cluster that requires a token. Empty: start Ray on this machine."
    )
    bootstrap: int = Field(2000, ge=1, le=100_000, description="Bootstrap resamples for every confidence interval.")
    track: Track = ""
    subgroups: tuple[str, ...] = Field(
        (),
        description="Columns of labels.csv by which test results are also reported, such as scanner. Those of "
        "published datasets (BI-RADS, device, side, Doppler, annotations), and lesion size where there are masks, "
        "always are.",
    )
    cache: Path = Field(
        Path(platformdirs.user_cache_dir("fedbus")), description="Folder of decoded images and synthetic datasets."
    )

    @field_validator("arms", "seeds", "subgroups", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int) else value

    @field_validator("model")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not is_plain(value):
            raise ValueError(f"{plain_text(value)!r} is too long or contains characters that can't be printed")
        return value

    @field_validator("threshold")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        parse_rule(value)
        return value

    @field_validator("cache")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # the workers of a simulation run in other folders

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_arms(self.arms, self.strategy_options, self.head, self.batch_norm, self.engine)
        for key, values in (("arms", self.arms), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key}: give at least one, and none twice")
        if self.balance == "federation" and self.sampler != "ros":
            raise ValueError(f"balance=federation over-samples at random: it needs sampler=ros, not {self.sampler}")
        if self.fold >= self.folds:
            raise ValueError(f"fold: {self.fold} is out of range; the folds are 0 to {self.folds - 1}")
        if self.sites and self.quorum > len(self.sites):
            raise ValueError(f"quorum: {self.quorum} sites are required, but there are only {len(self.sites)}")
        for name in self.sites:
            check_site_name(name)
        check_secure_aggregation(self.privacy, self.federated_arms, self.head, self.quorum)
        check_differential_privacy(self)
        return self

    def __hash__(self) -> int:
        """Hash by value, in accordance with `==`, so that settings can be a key of a cache."""
        return hash(tuple(_hashable(getattr(self, name)) for name in type(self).model_fields))

    @property
    def federated_arms(self) -> tuple[str, ...]:
        """The arms that are federated, each with a strategy of Flower."""
        return tuple(arm for arm in self.arms if arm in STRATEGIES)

    @property
    def draw_seed(self) -> int:
        """The seed of the bootstrap resamples."""
        return derive_seed(self.split_seed, "bootstrap")

    def for_sites(self) -> str:
        """Return the settings that a hub sends to its sites, as JSON without paths, site names and addresses."""
        return self.model_dump_json(by_alias=True, exclude=set(NOT_SENT))

    def as_dict(self) -> dict[str, Any]:
        """Return all settings under their TOML keys, with JSON types only."""
        return self.model_dump(mode="json", by_alias=True)


def _hashable(value: Any) -> Any:
    return frozenset((key, _hashable(item)) for key, item in value.items()) if isinstance(value, dict) else value
