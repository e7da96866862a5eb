"""How figures, arms and verdicts are put into words: alike in the terminal, on the page and in pictures."""

import math
from typing import Any

from fedbus.settings.schema import is_tuned, tuned_from

PHANTOMS = "PHANTOMS: synthetic pictures, no figure here says anything about patients."
"""Stands on everything that is made from phantoms."""

METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "auc": "AUC", "ece": "calibration error"}
"""Metrics in the order of the tables, with the names that people read."""

ALONE, POOLED, FEDERATED = "Each hospital alone", "All images pooled", "Federated"

GUESSING = 1 / 3
"""The recall of every class when one of three classes is guessed at random."""

FEW_GROUPS = 20
"""Below so many groups a percentile bootstrap interval is known to be too narrow."""

MISSING = "n/a"


PER_IMAGE = "AUC over all hospitals needs per-image scores, which stay at the hospitals."
"""Stands under tables whose AUC over all hospitals is not defined for that reason."""

_STRATEGIES = {
    "fedavg": "FedAvg", "fedprox": "FedProx", "fedavgm": "FedAvgM", "fedadam": "FedAdam",
    "fedyogi": "FedYogi", "fedadagrad": "FedAdagrad", "qfedavg": "q-FedAvg", "fedmedian": "FedMedian",
    "fedtrimmedavg": "FedTrimmedAvg", "krum": "Krum", "multikrum": "Multi-Krum", "bulyan": "Bulyan",
}  # fmt: skip


def number(value: float | None, signed: bool = False) -> str:
    """Write a share or a difference of shares with three digits: `.912`, `1.000`, `−.020`, `n/a` for none.

    A sign outlives rounding (`−.000`), so that a bound shows on which side of 0 it lies.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + f"{abs(value):.3f}".removeprefix("0")


def interval(metric: dict[str, Any] | None) -> str:
    """Write the bounds alone: `(.880–.941)`, for differences `(−.040 to .002)`, empty if there are none."""
    low, high = (metric or {}).get("low"), (metric or {}).get("high")
    if low is None or high is None:
        return ""
    return f"({number(low)} to {number(high)})" if low < 0 else f"({number(low)}–{number(high)})"


def spread(metric: dict[str, Any] | None) -> str:
    """Write the standard deviation over training seeds: `±.010`, empty for one seed."""
    found = (metric or {}).get("spread")
    return "" if found is None else f"±{number(found)}"


def value(metric: dict[str, Any] | None, signed: bool = False) -> str:
    """Write the figure alone: `.912`, `n/a` where the rows don't define it."""
    return number((metric or {}).get("value"), signed)


def with_interval(metric: dict[str, Any] | None, signed: bool = False) -> str:
    """Write `.912 (.880–.941)`, with `±.010` behind it where several seeds were trained."""
    return " ".join(part for part in (value(metric, signed), interval(metric), spread(metric)) if part)


def verdict(difference: dict[str, Any]) -> str:
    """Say `higher` or `lower` where the interval excludes 0, else `inconclusive`."""
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        return "no interval"
    return "higher" if low > 0 else "lower" if high < 0 else "inconclusive"


def verdict_sentence(difference: dict[str, Any]) -> str:
    """Give the verdict with its reason."""
    found = verdict(difference)
    if found == "no interval":
        return found
    return f"{found}, the interval {'includes' if found == 'inconclusive' else 'excludes'} 0"


def home(arm: str) -> str | None:
    """Name the hospital that trained alone, None for pooled and federated arms."""
    return arm.removeprefix("local-") if arm.startswith("local-") else None


def family(arm: str) -> str:
    """Say to which of the three ways of training an arm belongs."""
    return ALONE if home(arm) is not None else POOLED if arm == "centralised" else FEDERATED


def arm_label(arm: str) -> str:
    """Name an arm as people do: `BUSI alone`, `Pooled`, `FedAvg`."""
    site = home(arm)
    if site is not None:
        return f"{site} alone"
    if is_tuned(arm):
        return f"{arm_label(tuned_from(arm))}, tuned"
    return "Pooled" if arm == "centralised" else _STRATEGIES.get(arm, arm)


def site_label(site: str) -> str:
    """Name a test set."""
    return "all test images" if site == "all" else site


def site_names(results: dict[str, Any]) -> list[str]:
    """List the hospitals in the order of the results."""
    return list(results["sites"])


def test_sets(results: dict[str, Any]) -> list[str]:
    """List what arms are scored on: `all` first, then every hospital."""
    return ["all", *site_names(results)]


def ordered_arms(results: dict[str, Any]) -> list[str]:
    """List the arms that there are: hospitals alone in the order of the sites, pooled, federated."""
    order = {name: place for place, name in enumerate(site_names(results))}
    families = [ALONE, POOLED, FEDERATED]
    found = list(results["arms"])
    return sorted(
        found,
        key=lambda arm: (
            families.index(family(arm)),
            order.get(home(arm) or "", len(order)),
            found.index(arm),
        ),
    )


def shared_arms(results: dict[str, Any]) -> list[str]:
    """List the arms in which all hospitals take part: pooled and federated."""
    return [arm for arm in ordered_arms(results) if family(arm) != ALONE]


def scores(results: dict[str, Any], arm: str, site: str) -> dict[str, Any]:
    """Look up an arm's metrics at a site, empty where it was not scored there."""
    found: dict[str, Any] = results["arms"].get(arm, {}).get(site) or {}
    return found


def recall(results: dict[str, Any], arm: str, site: str, label: str) -> dict[str, Any] | None:
    """Look up the recall (sensitivity) of a class, None where the site has no such images."""
    found: dict[str, Any] | None = (scores(results, arm, site).get("sensitivity") or {}).get(label)
    return found


def tested(results: dict[str, Any], site: str, label: str) -> int:
    """Count the test images of a class at a site, or at all of them."""
    names = site_names(results) if site == "all" else [site]
    return sum(results["sites"].get(name, {}).get("splits", {}).get("test", {}).get(label, 0) for name in names)


def leading(results: dict[str, Any]) -> tuple[str, str]:
    """Name the two metrics that pictures and summary lead with: those that are known on all test images."""
    known = not results["arms"] or any(scores(results, arm, "all").get("auc") for arm in results["arms"])
    return ("auc" if known else "accuracy", "macro_f1")


def apart(results: dict[str, Any]) -> bool:
    """Say whether the images stayed at the hospitals: what wrote the results has no digest of any."""
    return not any("digest" in site for site in results["sites"].values())


def note_on_auc(results: dict[str, Any]) -> str:
    """Say why there is no AUC on all test images; empty if there is one."""
    return PER_IMAGE if apart(results) and leading(results)[0] != "auc" else ""


def has_spread(results: dict[str, Any]) -> bool:
    """Say whether arms were trained with several seeds."""
    return any("spread" in (scores(results, arm, "all").get("accuracy") or {}) for arm in results["arms"])


def size(results: dict[str, Any], site: str) -> str:
    """Say how many images and groups a test set has, from the first arm scored on it."""
    for arm in results["arms"]:
        found = scores(results, arm, site)
        if "images" in found:
            return f"{found['images']} images in {found.get('groups', '?')} groups"
    return "not scored"


def duration(seconds: float) -> str:
    """Write seconds for people: `48 s`, `5 min 1 s`, `2 h 3 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
