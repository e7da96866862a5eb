"""Every setting of a study: one validated object; `study_file` reads it from TOML and `--set KEY=VALUE`."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedbus.seeds import derive_seed

CENTRAL_ARMS = ("local", "centralised")
STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "qfedavg",
    "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan",
)  # fmt: skip
"""Federated arms: the names of Flower's strategies in lower case."""

AVERAGING = ("fedavg", "fedprox")
"""Arms whose model is the mean of the sites' models; a row of another arm's model is no mean that could be mended."""

ROBUST = ("fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan")
"""Arms that leave out what some sites sent; statistics of all sites would bring it back in."""

TUNED = "-tuned"
"""Ending of the arms that go on from a federated one: its kept model, fine-tuned at each site."""

RESERVED_NAMES = ("all", "pooled")
"""Names that stand for several sites in tables, and so can't be a site's."""


def kebab(name: str) -> str:
    """A field's key as it is written in TOML and on the command line."""
    return name.replace("_", "-")


class SiteSource(BaseModel):
    """Where one hospital's archive lies and which reader understands it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reader: str
    path: Path


class Settings(BaseModel):
    """The settings of one comparison; keys are written with hyphens in TOML and on the command line."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True, allow_inf_nan=False
    )

    sites: dict[str, SiteSource] = Field({}, description="hospitals; none: three synthetic ones (phantoms)")
    arms: tuple[str, ...] = Field(("local", "centralised", "fedavg", "fedprox"), description="what is compared")
    seeds: tuple[int, ...] = Field((0,), description="one training of every arm for each")

    image_size: int = Field(224, ge=32, le=1024, description="pixels a side")
    near_bits: int = Field(
        20,
        ge=0,
        le=64,
        description="pictures whose 256-bit difference hashes differ in at most so many bits are near-copies",
    )
    folds: int = Field(5, ge=2, le=50, description="the test part is one fold of so many")
    fold: int = Field(0, ge=0, description="which fold is the test part")
    validation_fraction: float = Field(0.15, gt=0, le=0.5, description="of the rows that are not test rows")
    split: Literal["groups", "images", "balanced-images"] = Field(
        "groups",
        description="what is split: groups, single images, or single images after over-sampling; the last two leak, "
        "and are there to show how much",
    )
    split_seed: int = Field(0, ge=0, description="of the split; training seeds do not change it")
    limit: int = Field(0, ge=0, description="at most so many images a site, whole groups, all classes; 0: all")
    burned_in: Literal["kept", "masked"] = Field(
        "kept", description="masked: burned-in calipers and text are painted over"
    )
    phantom_images: int = Field(180, ge=30, le=5000, description="synthetic images a site, if no site is named")

    model: str = Field("resnetv2_50", description="any timm classifier")
    weights: str = Field("imagenet", description="start: imagenet (timm's), none, or a .safetensors or .pth file")
    sampler: Literal["ros", "none", "class-weights", "rus", "smote", "adasyn", "smote-tomek", "smote-enn"] = "ros"
    missing_classes: Literal["mask", "plain", "restricted", "softened", "balanced", "distil"] = Field(
        "mask",
        description="what a site's loss does with the classes that it never saw: leave them out (mask), "
        "nothing (plain), scale their logits (restricted), charge for their probability in "
        "part (softened), give them a small prior (balanced), hold them to the incoming model (distil)",
    )
    missing_strength: float = Field(
        0.2,
        ge=0,
        le=1,
        description="restricted: the scale of missing logits; softened: 0 is mask, 1 plain; distil: its weight",
    )
    head: Literal["average", "by-class"] = Field(
        "average", description="by-class: the classifier's row of a class is averaged over the sites that have it"
    )
    batch_norm: Literal["average", "frozen", "local", "local-statistics", "pooled"] = Field(
        "average",
        description="frozen: running statistics stay those of the start weights; local: BatchNorm never leaves a site; "
        "local-statistics: its running statistics never do; "
        "pooled: running statistics of all sites together: the variance between sites is added",
    )

    rounds: int = Field(12, ge=1, le=10_000)
    local_epochs: float = Field(1.0, gt=0, le=100, description="passes over a site's balanced rows a round")
    steps_per_round: int = Field(
        0, ge=0, le=100_000, description="optimiser steps of a site a round; 0: as many as local-epochs asks for"
    )
    batch_size: int = Field(32, ge=2, le=4096)
    optimiser_state: Literal["reset", "kept"] = Field(
        "reset", description="what a site's optimiser remembers of the round before"
    )
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(3e-4, gt=0, le=10)
    weight_decay: float = Field(0.01, ge=0, le=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps in which the rate rises")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    augmentation: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    proximal_mu: float = Field(0.1, ge=0, le=100, description="FedProx's mu")
    site_weights: Literal["distinct", "balanced", "equal"] = Field(
        "distinct",
        description="what FedAvg weighs a site by: its distinct or its balanced training rows, or equally",
    )
    strategy_options: dict[str, dict[str, float | int | bool]] = Field(
        {}, description="arguments of Flower's strategies, by arm"
    )
    quorum: int = Field(0, ge=0, description="sites whose update a round needs; 0: all")
    round_timeout: float = Field(3600, gt=0, description="seconds a round waits for its sites")
    update_limit: float = Field(
        10,
        gt=0,
        description="an update is refused if it moves the model by more than so many times the model's norm",
    )

    payload: Literal["dict", "flat", "flat-fp16"] = Field(
        "flat", description="how models travel: an array a parameter, or one array, whole or in half precision"
    )
    workers: int = Field(1, ge=1, description="sites that train at the same time in a simulation")
    ray_address: str = Field(
        "", description="HOST:PORT of a Ray cluster that asks for a token; empty: a Ray of its own"
    )
    bootstrap: int = Field(2000, ge=1, le=100_000, description="draws behind every interval")
    cache: Path = Field(Path(platformdirs.user_cache_dir("fedbus")), description="decoded pictures, phantoms")

    @field_validator("arms", "seeds", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return (value,) if isinstance(value, int) else value

    @field_validator("cache")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # the workers of a simulation start in other folders

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = (*CENTRAL_ARMS, *STRATEGIES)
        for arm in self.arms:
            if arm not in known and tuned_from(arm) not in STRATEGIES:
                raise ValueError(f"arms: no arm is called {arm!r}{nearest(arm, known)}")
            if is_tuned(arm) and tuned_from(arm) not in self.arms:
                raise ValueError(f"arms: {arm} goes on from {tuned_from(arm)}; add {tuned_from(arm)} to arms")
        for arm in self.strategy_options:
            if arm not in STRATEGIES:
                raise ValueError(f"strategy-options: no strategy is called {arm!r}{nearest(arm, STRATEGIES)}")
        for key, values in (("arms", self.arms), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key}: name at least one, and none twice")
        if self.head == "by-class" and (others := [arm for arm in self.federated_arms if arm not in AVERAGING]):
            raise ValueError(f"head: by-class can't be had with {', '.join(others)}, no mean of the sites' models")
        if self.batch_norm == "pooled" and (robust := [arm for arm in self.federated_arms if arm in ROBUST]):
            raise ValueError(f"batch-norm: pooled can't be had with {', '.join(robust)}, which may leave sites out")
        if self.fold >= self.folds:
            raise ValueError(f"fold: {self.fold} is not one of the folds 0 to {self.folds - 1}")
        if self.sites and self.quorum > len(self.sites):
            raise ValueError(f"quorum: {self.quorum} of {len(self.sites)} sites can't be reached")
        for name in self.sites:
            check_site_name(name)
        return self

    @property
    def federated_arms(self) -> tuple[str, ...]:
        """The arms that run on Flower."""
        return tuple(arm for arm in self.arms if arm in STRATEGIES)

    @property
    def draw_seed(self) -> int:
        """Of the bootstrap draws behind every interval."""
        return derive_seed(self.split_seed, "bootstrap")

    def for_sites(self) -> str:
        """The settings that a hub sends to its sites, as JSON: no path, no site's name or address."""
        hidden = {"sites", "cache", "weights", "ray_address", "workers", "device", "quorum"}
        return self.model_dump_json(by_alias=True, exclude=hidden)

    def as_dict(self) -> dict[str, Any]:
        """All settings in TOML's spelling, JSON types only."""
        return self.model_dump(mode="json", by_alias=True)


def is_tuned(arm: str) -> bool:
    """Whether an arm is a federated one that each site fine-tunes: `fedavg-tuned`."""
    return arm.endswith(TUNED)


def tuned_from(arm: str) -> str:
    """The federated arm that a tuned one goes on from; empty for other arms."""
    return arm.removesuffix(TUNED) if is_tuned(arm) else ""


def check_site_name(name: str) -> None:
    """Check that a site's name can name a folder and no several sites together.

    Raises:
        ValueError: it can't.
    """
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isalnum() and plain.isascii()) or name.startswith("."):
        raise ValueError(f"sites: {name!r} can't name a folder; use letters, digits, '-', '_' and '.'")
    if name in RESERVED_NAMES:
        raise ValueError(f"sites: {name!r} means several sites together; choose another name")


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a complaint about an unknown name: the one that was probably meant, or all there are."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
