"""The figures of the paper that FedBUS follows, and which figures of a run can be compared with them.

Sakli et al. (see `REFERENCE`) balance, train and score on three datasets, each alone and all combined. A figure of a
run is compared with one of theirs only if it is of the same dataset. The reader of a site decides that, not its name:
BUS-BRA does not replace GDPH&SYSUCC.
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
    "dataset and on the three combined, centralised. The paper does not tell whether patients and duplicates were kept "
    "apart, and whether ROS came before the split."
)

STATED_IMAGES = 3971
"""Images of the combined set, as the paper states it; `STATED_CLASSES` adds up to less."""
STATED_CLASSES = {"benign": 1497, "malignant": 1819, "normal": 247}

COMBINED = "The three datasets combined"
ADDED_UP = "The three datasets, added up"
NOT_IN_RUN = "not in this run"

DATASETS = {
    "busi": "BUSI",
    "bus-uclm": "BUS-UCLM",
    "gdph-sysucc": "GDPH&SYSUCC",
    "gdph": "GDPH",
    "sysucc": "SYSUCC",
    "bus-bra": "BUS-BRA",
}
"""Published datasets by reader; the images of any other reader are a site's own."""


@dataclass(frozen=True)
class Published:
    """Figures of the paper, shares in [0, 1]; the abstract does not state which average its F1 is."""

    accuracy: float
    f1: float
    auc: float


PUBLISHED = {
    "busi": Published(0.9544, 0.9525, 0.9921),
    "bus-uclm": Published(0.9722, 0.9732, 0.9990),
    "gdph-sysucc": Published(0.9572, 0.9572, 0.9837),
}
"""By the reader whose sites they are compared with; the paper writes BUSI-UCLM for BUS-UCLM."""

PUBLISHED_COMBINED = Published(0.9396, 0.9399, 0.9870)


@dataclass(frozen=True)
class Pairing:
    """A row of the table: a dataset, the paper's figures and ours, either of which may be missing.

    Attributes:
        dataset: Published name of the dataset, or of those combined.
        paper: The paper's figures; None if it has none of these images.
        site: Name of the site in the run; None for several sites together, or none.
        ours: Metrics as `fedbus.evaluation.evaluate.evaluate` returns them; None if there are none.
        remark: Why a figure is missing, or what else a reader must know; may be empty.
    """

    dataset: str
    paper: Published | None
    site: str | None
    ours: Mapping[str, Any] | None
    remark: str = ""


@dataclass(frozen=True)
class CensusRow:
    """Images of one dataset, or as the paper states them.

    Attributes:
        what: The dataset, or the source of the number.
        classes: Published images of each class; None if only a total is stated, or nothing is published.
        images: Published images; None for a site's own images.
        site: Name of the site in the run; None if the run has none.
        held: Images of each class that the run splits; None if it has none, or repeats some of them.
        held_images: Distinct images that the run splits; None if it has none.
        left_out: Images that the run found and left out; None if it has none.
    """

    what: str
    classes: Mapping[str, int] | None
    images: int | None
    site: str | None = None
    held: Mapping[str, int] | None = None
    held_images: int | None = None
    left_out: int | None = None


def pair_with_paper(results: Mapping[str, Any]) -> list[Pairing]:
    """Pair the figures of a run with the paper's.

    For a dataset, the figure is that of the model trained at its site alone (arm `local-SITE`) on that site's test
    images. For the combination, it is that of the centralised model on all test images, if the datasets are the
    paper's three.

    Args:
        results: Content of `results.json`.

    Returns:
        The paper's datasets, then other ones, then the combination. Empty if there is nothing to pair: all images are
        phantoms, or the sites' own.
    """
    if not _has_datasets(results):
        return []
    rows = []
    for reader, published in PUBLISHED.items():
        sites = [name for name, site in results["sites"].items() if site.get("reader") == reader]
        rows += [_paired_site(results, name, published) for name in sites]
        if not sites:
            rows.append(Pairing(DATASETS[reader], published, None, None, NOT_IN_RUN))
    rows += [_paired_site(results, name, None) for name in _others(results)]
    return rows + _combined(results)


def census(results: Mapping[str, Any]) -> list[CensusRow]:
    """Count the images that the paper states, that the datasets publish, and that a run uses.

    Args:
        results: Content of `results.json`.

    Returns:
        The paper's two sums, its datasets, their sum, other sites; empty if `pair_with_paper` is.
    """
    if not _has_datasets(results):
        return []
    rows = [
        CensusRow("Stated in the paper", None, STATED_IMAGES),
        CensusRow("Classes stated in the paper, added up", STATED_CLASSES, sum(STATED_CLASSES.values())),
    ]
    for reader in PUBLISHED:
        sites = [name for name, site in results["sites"].items() if site.get("reader") == reader]
        rows += [_counted(results, name) for name in sites] or [_published(DATASETS[reader], READERS[reader].census)]
    censuses = [READERS[reader].census or {} for reader in PUBLISHED]
    together = {label: sum(counts[label] for counts in censuses) for label in CLASSES}
    rows.append(_published(ADDED_UP, together))
    return rows + [_counted(results, name) for name in _others(results)]


def our_protocol(results: Mapping[str, Any]) -> str:
    """Describe how a run's own figures were made, as far as its settings tell."""
    settings = results["settings"]
    splits = {
        "groups": "split by patient and near-duplicates, training images balanced afterwards",
        "images": "split by image, so patients and duplicates are not kept apart",
        "balanced-images": "classes balanced before the split by image, so training and test share duplicates",
    }
    parts = (
        [f"{settings['model']} at {settings['image-size']} px"] if {"model", "image-size"} <= settings.keys() else []
    )
    parts += [f"sampler {settings['sampler']}"] if "sampler" in settings else []
    parts.append(splits[settings.get("split", "groups")])
    parts += [f"at most {settings['limit']} images per site"] if settings.get("limit") else []
    return "; ".join(parts) + "."


def _has_datasets(results: Mapping[str, Any]) -> bool:
    return not results["phantoms"] and any(site.get("reader") in DATASETS for site in results["sites"].values())


def _others(results: Mapping[str, Any]) -> list[str]:
    return [name for name, site in results["sites"].items() if site.get("reader") not in PUBLISHED]


def _dataset_of(results: Mapping[str, Any], site: str) -> str:
    return DATASETS.get(results["sites"][site].get("reader", ""), "A site's own images")


def _paired_site(results: Mapping[str, Any], site: str, published: Published | None) -> Pairing:
    ours = results["arms"].get(f"local-{site}", {}).get(site)
    remark = "" if published else "not a dataset of the paper"
    if results["sites"][site].get("reader") in ("gdph", "sysucc"):
        remark = "half of GDPH&SYSUCC, for which the paper has no figure"
    if not ours:
        remark = "; ".join(part for part in (remark, "not trained alone in this run") if part)
    return Pairing(_dataset_of(results, site), published, site, ours or None, remark)


def _combined(results: Mapping[str, Any]) -> list[Pairing]:
    ours = results["arms"].get("centralised", {}).get("all")
    missing = "" if ours else "no centralised arm in this run"
    if _has_the_three(results):
        return [Pairing(COMBINED, PUBLISHED_COMBINED, None, ours, missing)]
    rows = [Pairing(COMBINED, PUBLISHED_COMBINED, None, None, NOT_IN_RUN)]
    if ours and len(results["sites"]) > 1:
        names = " + ".join(_dataset_of(results, name) for name in results["sites"])
        rows.append(Pairing(names, None, None, ours, "another combination than the paper's"))
    return rows


def _has_the_three(results: Mapping[str, Any]) -> bool:
    """Whether a run's sites are the paper's three datasets, each once, the third as one or as two sites."""
    readers = sorted(str(site.get("reader")) for site in results["sites"].values())
    return readers in (sorted(PUBLISHED), sorted({"busi", "bus-uclm", "gdph", "sysucc"}))


def _published(what: str, counts: Mapping[str, int] | None) -> CensusRow:
    return CensusRow(what, counts, sum(counts.values()) if counts else None)


def _counted(results: Mapping[str, Any], site: str) -> CensusRow:
    found, reader = results["sites"][site], READERS.get(results["sites"][site].get("reader", ""))
    counts = {label: sum(part.get(label, 0) for part in found["splits"].values()) for label in CLASSES}
    published = _published(_dataset_of(results, site), reader.census if reader else None)
    return CensusRow(
        published.what,
        published.classes,
        published.images,
        site,
        counts if sum(counts.values()) == found["images"] else None,
        found["images"],
        len(found.get("dropped", [])),
    )
