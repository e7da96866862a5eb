"""Every setting of a study: one validated object, read from one TOML file and `--set KEY=VALUE`."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedbus.errors import SettingsError
from fedbus.seeds import derive_seed

CENTRAL_ARMS = ("local", "centralised")
STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "qfedavg",
    "fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan",
)  # fmt: skip
"""Federated arms: the names of Flower's strategies in lower case."""

DEFAULT_STUDY = Path(__file__).parents[1] / "simulations" / "studies" / "phantoms.toml"
"""What runs where no study and no site is named."""

RESERVED_NAMES = ("all", "pooled")
"""Names that stand for several sites in tables, and so can't be a site's."""


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class SiteSource(BaseModel):
    """Where one hospital's archive lies and which reader understands it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reader: str
    path: Path


class Study(BaseModel):
    """The settings of one comparison; keys are written with hyphens in TOML and on the command line."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_kebab, populate_by_name=True, allow_inf_nan=False
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
    split_seed: int = Field(0, ge=0, description="of the split; training seeds do not change it")
    limit: int = Field(0, ge=0, description="at most so many images a site, whole groups, all classes; 0: all")
    phantom_images: int = Field(180, ge=30, le=5000, description="synthetic images a site, if no site is named")

    model: str = Field("resnetv2_50", description="any timm classifier")
    weights: str = Field("imagenet", description="start: imagenet (timm's), none, or a .safetensors or .pth file")
    sampler: Literal["ros", "none", "class-weights", "rus", "smote", "adasyn"] = "ros"
    missing_classes: Literal["mask", "plain"] = Field(
        "mask", description="mask: a site's loss leaves out the classes that it never saw"
    )
    batch_norm: Literal["average", "frozen"] = Field(
        "average", description="frozen: running statistics stay those of the start weights"
    )

    rounds: int = Field(12, ge=1, le=10_000)
    local_epochs: float = Field(1.0, gt=0, le=100, description="passes over a site's balanced rows a round")
    batch_size: int = Field(32, ge=2, le=4096)
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

    transport: Literal["dict", "flat", "flat-fp16"] = Field(
        "flat", description="how models travel: an array a parameter, or one array, whole or in half precision"
    )
    workers: int = Field(1, ge=1, description="sites that train at the same time in a simulation")
    ray_address: str = Field("", description="a running Ray cluster; empty: one of its own on this machine")
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
            if arm not in known:
                raise ValueError(f"arms: no arm is called {arm!r}{_nearest(arm, known)}")
        for arm in self.strategy_options:
            if arm not in STRATEGIES:
                raise ValueError(f"strategy-options: no strategy is called {arm!r}{_nearest(arm, STRATEGIES)}")
        for key, values in (("arms", self.arms), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key}: name at least one, and none twice")
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


def load_study(path: Path | None = None, overrides: Sequence[str] = (), sites: Sequence[str] = ()) -> Study:
    """Read a study file, then apply `--set KEY=VALUE` and `--site NAME=PATH`, later ones winning.

    Relative paths in the file are relative to it; those on the command line to the current folder.

    Raises:
        SettingsError: the file or a value is malformed, a key is unknown, two sites share a name.
    """
    settings: dict[str, Any] = _read_toml(path) if path else {}
    given: dict[str, Any] = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise SettingsError(f"--set {override} has no value.", "Write --set KEY=VALUE.")
        given[key.strip()] = parse_value(value.strip())
    _resolve_places(given, Path())
    settings |= given
    if sites:
        settings["sites"] = parse_sites(sites)
    return build_study(settings, where=str(path) if path else "the command line")


def build_study(settings: Mapping[str, Any], where: str) -> Study:
    """Validate settings, turning every complaint into words that name the key and the remedy.

    Raises:
        SettingsError: as `load_study`.
    """
    try:
        return Study.model_validate(dict(settings))
    except ValidationError as error:
        raise SettingsError(
            f"{where}: " + "; ".join(_explain(dict(e)) for e in error.errors()) + ".",
            "See `fedbus settings` for every key.",
        ) from error


def parse_value(text: str) -> Any:
    """Read a value as TOML does (`3`, `true`, `[0, 1]`, `"x"`); what is not TOML is taken as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_sites(specs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read `NAME=PATH`, where NAME is a reader, or `NAME=READER:PATH` for a site with a name of its own.

    Raises:
        SettingsError: no `=`, or two sites with one name.
    """
    found: dict[str, dict[str, str]] = {}
    for spec in specs:
        name, separator, place = spec.partition("=")
        if not (separator and name and place):
            raise SettingsError(f"{spec!r} does not name a site.", "Write NAME=PATH, e.g. busi=/data/BUSI.")
        if name in found:
            raise SettingsError(
                f"Two sites are called {name}.",
                "Give each its own name: NAME=READER:PATH, e.g. north=busi:/data/BUSI.",
            )
        reader, colon, path = place.partition(":")
        known = colon and not Path(place).exists() and "/" not in reader
        found[name] = {"reader": reader, "path": path} if known else {"reader": name, "path": place}
        found[name]["path"] = str(Path(found[name]["path"]).expanduser().resolve())
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} is not there.", "Name a study file, e.g. simulations/studies/phantoms.toml."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not a TOML file ({error}).", "Mend that line.") from error
    sites = settings.get("sites")
    for source in sites.values() if isinstance(sites, dict) else ():
        if isinstance(source, dict):
            _resolve(source, "path", path.parent)
    _resolve_places(settings, path.parent)
    return settings


def _resolve_places(settings: dict[str, Any], folder: Path) -> None:
    _resolve(settings, "cache", folder)
    if settings.get("weights") not in ("imagenet", "none"):
        _resolve(settings, "weights", folder)


def _resolve(table: dict[str, Any], key: str, folder: Path) -> None:
    if isinstance(table.get(key), str):
        table[key] = str((folder / Path(table[key]).expanduser()).resolve())


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


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"no setting is called {where!r}{_nearest(where, [_kebab(k) for k in Study.model_fields])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}, not {error['input']!r}" if where else message
