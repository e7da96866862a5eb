"""The figures of the paper that FedBUS follows, and which figures of a run may stand beside them.

Sakli et al. (see `REFERENCE`) balance, train and score on three archives, each alone and all together. A run's figure
stands beside one of theirs only if it is about the same archive, and that is decided by the reader of a site, never by
its name: BUS-BRA does not stand in for GDPH&SYSUCC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedbus.classes import CLASSES
from fedbus.datasets.registry import READERS

REFERENCE = (
    "Sakli M, Ben Salah B, Essid C, Hammemi R, et al. Overcoming data heterogeneity in breast ultrasound: a "
    "ResNet50V2-based solution with enhanced class balancing. Research Square, preprint, version 1. "
    "doi:10.21203/rs.3.rs-7855980/v1"
)
PROTOCOL = (
    "ResNet50V2 by transfer learning, classes balanced by random over-sampling (ROS), trained and validated on each "
    "archive and on the three together, centralised. Whether patients and copies were kept apart, and whether ROS came "
    "before the split, can't be seen."
)

STATED_IMAGES = 3971
"""Of the combined set, as the paper states it; `STATED_CLASSES` adds up to less."""
STATED_CLASSES = {"benign": 1497, "malignant": 1819, "normal": 247}

COMBINED = "The three archives combined"
ADDED_UP = "The three archives, added up"
NOT_AT_HAND = "not at hand"

ARCHIVES = {
    "busi": "BUSI",
    "bus-uclm": "BUS-UCLM",
    "gdph-sysucc": "GDPH&SYSUCC",
    "gdph": "GDPH",
    "sysucc": "SYSUCC",
    "bus-bra": "BUS-BRA",
}
"""Published archives by reader; pictures of any other reader are a hospital's own."""


@dataclass(frozen=True)
class Published:
    """Figures of the paper, shares in [0, 1]; which average its F1 is, its abstract does not say."""

    accuracy: float
    f1: float
    auc: float


PUBLISHED = {
    "busi": Published(0.9544, 0.9525, 0.9921),
    "bus-uclm": Published(0.9722, 0.9732, 0.9990),
    "gdph-sysucc": Published(0.9572, 0.9572, 0.9837),
}
"""By the only reader whose sites may stand beside it; the paper writes BUSI-UCLM for BUS-UCLM."""

PUBLISHED_COMBINED = Published(0.9396, 0.9399, 0.9870)


@dataclass(frozen=True)
class Beside:
    """A row of the table: an archive, the paper's figure and ours, either of which may be missing.

    Attributes:
        archive: published name of the archive, or which ones are combined.
        paper: the paper's figures, None where it has none of these images.
        site: the run's name for the hospital; None for several together, or none.
        ours: metrics as `fedbus.evaluation.evaluate.evaluate` gives them, None where there are none.
        remark: why a figure is missing, or what else must be known; may be empty.
    """

    archive: str
    paper: Published | None
    site: str | None
    ours: Mapping[str, Any] | None
    remark: str = ""


@dataclass(frozen=True)
class CensusRow:
    """Images of one archive, or of a statement of the paper.

    Attributes:
        what: the archive, or who says so.
        classes: published images of each class; None where only a total is stated, or nothing is published.
        images: published images; None for a hospital's own pictures.
        site: the run's name for the hospital; None where it has none.
        held: images of each class that the run splits; None where it has none, or repeats some of them.
        held_images: distinct images that the run splits, None where it has none.
        left_out: images that the run found and left out, None where it has none.
    """

    what: str
    classes: Mapping[str, int] | None
    images: int | None
    site: str | None = None
    held: Mapping[str, int] | None = None
    held_images: int | None = None
    left_out: int | None = None


def beside(results: Mapping[str, Any]) -> list[Beside]:
    """Pair the figures of a run with the paper's.

    An archive's figure is that of the model trained at its site alone (arm `local-SITE`), on that site's test images;
    the combined one is that of the pooled model on all test images, where the archives are the paper's three.

    Args:
        results: the content of `results.json`.

    Returns:
        The paper's archives, those that it does not have, the combination; empty where there is nothing to pair:
        pictures are phantoms, or the hospitals' own at every site.
    """
    if not _has_archives(results):
        return []
    rows = []
    for reader, published in PUBLISHED.items():
        sites = [name for name, site in results["sites"].items() if site.get("reader") == reader]
        rows += [_alone(results, name, published) for name in sites]
        if not sites:
            rows.append(Beside(ARCHIVES[reader], published, None, None, NOT_AT_HAND))
    rows += [_alone(results, name, None) for name in _others(results)]
    return rows + _combined(results)


def census(results: Mapping[str, Any]) -> list[CensusRow]:
    """Set what the paper states beside what the archives publish and what a run holds.

    Args:
        results: the content of `results.json`.

    Returns:
        The paper's two sums, its archives, their sum, other sites; empty where `beside` is.
    """
    if not _has_archives(results):
        return []
    rows = [
        CensusRow("Stated in the paper", None, STATED_IMAGES),
        CensusRow("Classes stated in the paper, added up", STATED_CLASSES, sum(STATED_CLASSES.values())),
    ]
    for reader in PUBLISHED:
        sites = [name for name, site in results["sites"].items() if site.get("reader") == reader]
        rows += [_counted(results, name) for name in sites] or [_published(ARCHIVES[reader], READERS[reader].census)]
    censuses = [READERS[reader].census or {} for reader in PUBLISHED]
    together = {label: sum(counts[label] for counts in censuses) for label in CLASSES}
    rows.append(_published(ADDED_UP, together))
    return rows + [_counted(results, name) for name in _others(results)]


def our_protocol(results: Mapping[str, Any]) -> str:
    """Say in words how a run's own figures were made, as far as its settings tell."""
    settings = results["settings"]
    splits = {
        "groups": "rows split by patient and near-copy, training rows balanced afterwards",
        "images": "single images split, so patients and copies are not kept apart",
        "balanced-images": "classes balanced before single images were split, so copies stand in training and test",
    }
    said = [f"{settings['model']} at {settings['image-size']} px"] if {"model", "image-size"} <= settings.keys() else []
    said += [f"sampler {settings['sampler']}"] if "sampler" in settings else []
    said.append(splits[settings.get("split", "groups")])
    said += [f"at most {settings['limit']} images a site"] if settings.get("limit") else []
    return "; ".join(said) + "."


def _has_archives(results: Mapping[str, Any]) -> bool:
    return not results["phantoms"] and any(site.get("reader") in ARCHIVES for site in results["sites"].values())


def _others(results: Mapping[str, Any]) -> list[str]:
    return [name for name, site in results["sites"].items() if site.get("reader") not in PUBLISHED]


def _archive_of(results: Mapping[str, Any], site: str) -> str:
    return ARCHIVES.get(results["sites"][site].get("reader", ""), "A hospital's own images")


def _alone(results: Mapping[str, Any], site: str, published: Published | None) -> Beside:
    ours = results["arms"].get(f"local-{site}", {}).get(site)
    remark = "" if published else "not an archive of the paper"
    if results["sites"][site].get("reader") in ("gdph", "sysucc"):
        remark = "half of GDPH&SYSUCC, of which the paper has no figure"
    if not ours:
        remark = "; ".join(part for part in (remark, "not trained alone in this run") if part)
    return Beside(_archive_of(results, site), published, site, ours or None, remark)


def _combined(results: Mapping[str, Any]) -> list[Beside]:
    ours = results["arms"].get("centralised", {}).get("all")
    missing = "" if ours else "not trained pooled in this run"
    if _holds_the_three(results):
        return [Beside(COMBINED, PUBLISHED_COMBINED, None, ours, missing)]
    rows = [Beside(COMBINED, PUBLISHED_COMBINED, None, None, NOT_AT_HAND)]
    if ours and len(results["sites"]) > 1:
        names = " + ".join(_archive_of(results, name) for name in results["sites"])
        rows.append(Beside(names, None, None, ours, "another combination than the paper's"))
    return rows


def _holds_the_three(results: Mapping[str, Any]) -> bool:
    """Whether a run's sites are the paper's three archives, each once, the third whole or as its two hospitals."""
    readers = sorted(str(site.get("reader")) for site in results["sites"].values())
    return readers in (sorted(PUBLISHED), sorted({"busi", "bus-uclm", "gdph", "sysucc"}))


def _published(what: str, counts: Mapping[str, int] | None) -> CensusRow:
    return CensusRow(what, counts, sum(counts.values()) if counts else None)


def _counted(results: Mapping[str, Any], site: str) -> CensusRow:
    found, reader = results["sites"][site], READERS.get(results["sites"][site].get("reader", ""))
    counts = {label: sum(part.get(label, 0) for part in found["splits"].values()) for label in CLASSES}
    said = _published(_archive_of(results, site), reader.census if reader else None)
    return CensusRow(
        said.what,
        said.classes,
        said.images,
        site,
        counts if sum(counts.values()) == found["images"] else None,
        found["images"],
        len(found.get("dropped", [])),
    )
