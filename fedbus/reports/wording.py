"""How reports write figures, arms and verdicts: the same in the terminal, on the pages and in the figures."""

import html
import json
import math
from typing import Any

from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.settings.arms import blended_from, is_blended, is_tuned, tuned_from

PHANTOMS = "PHANTOMS: synthetic images. No figure here describes patients."
"""Shown with everything that is made from phantoms."""

METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "auc": "AUC", "ece": "calibration error"}
"""Metrics in the order of the tables, with the names that readers see."""

ALONE, POOLED, FEDERATED = "Each site alone", "Centralised (pooled data)", "Federated"

ALL_SITES = "all_sites"
"""Where results that show only some of many sites keep the facts of all."""
"""The three families of arms."""

GUESSING = 1 / 3
"""The recall of every class when one of three classes is guessed at random."""

FEW_GROUPS = 20
"""Below this number of groups, a percentile bootstrap interval is known to be too narrow."""

MISSING = "n/a"

PER_IMAGE = "AUC on all test images needs the score of each image, which stays at the site."
"""Shown under tables in which the AUC on all test images is undefined for that reason."""

TOTALS_ONLY = (
    "Secure aggregation: the hub knows only sums over the sites, and no figure, curve or time of a single site. Each "
    "site has its own figures in its folder, in models/RUN-ARM-SEED/metrics.json."
)
"""Shown where the figures of each site would be."""

ORIGIN = " of "
"""Between an arm and where its model comes from, where models of several runs are shown together."""

_STRATEGIES = {
    "fedavg": "FedAvg", "fedprox": "FedProx", "fedavgm": "FedAvgM", "fedadam": "FedAdam",
    "fedyogi": "FedYogi", "fedadagrad": "FedAdagrad", "qfedavg": "q-FedAvg", "fedmedian": "FedMedian",
    "fedtrimmedavg": "FedTrimmedAvg", "krum": "Krum", "multikrum": "Multi-Krum", "bulyan": "Bulyan",
}  # fmt: skip


def number(value: float | None, signed: bool = False) -> str:
    """Write a share or a difference of shares with three digits: `.912`, `1.000`, `−.020`; `n/a` for None.

    A negative value keeps its sign when it rounds to zero (`−.000`), so that a bound shows on which side of 0 it is.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + f"{abs(value):.3f}".removeprefix("0")


def interval(metric: dict[str, Any] | None) -> str:
    """Write the bounds: `(.880–.941)`, for differences `(−.040 to .002)`; empty without bounds."""
    low, high = (metric or {}).get("low"), (metric or {}).get("high")
    if low is None or high is None:
        return ""
    return f"({number(low)} to {number(high)})" if low < 0 else f"({number(low)}–{number(high)})"


def spread(metric: dict[str, Any] | None) -> str:
    """Write the standard deviation over training seeds: `±.010`; empty for one seed."""
    deviation = (metric or {}).get("spread")
    return "" if deviation is None else f"±{number(deviation)}"


def value(metric: dict[str, Any] | None, signed: bool = False) -> str:
    """Write the value without its interval: `.912`; `n/a` where the metric is undefined."""
    return number((metric or {}).get("value"), signed)


def with_interval(metric: dict[str, Any] | None, signed: bool = False) -> str:
    """Write `.912 (.880–.941)`, followed by `±.010` if several seeds were trained."""
    return " ".join(part for part in (value(metric, signed), interval(metric), spread(metric)) if part)


def verdict(difference: dict[str, Any]) -> str:
    """Return `higher` or `lower` if the interval excludes 0, else `inconclusive`; `no interval` without bounds."""
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        return "no interval"
    return "higher" if low > 0 else "lower" if high < 0 else "inconclusive"


def is_decided(difference: dict[str, Any]) -> bool:
    """Whether the interval of a difference excludes 0."""
    return verdict(difference) in ("higher", "lower")


def verdict_sentence(difference: dict[str, Any]) -> str:
    """Return the verdict with its reason."""
    if verdict(difference) == "no interval":
        return "no interval"
    return f"{verdict(difference)}, the interval {'excludes' if is_decided(difference) else 'includes'} 0"


def home(arm: str) -> str | None:
    """Return the site that trained alone; None for centralised and federated arms."""
    return arm.partition(ORIGIN)[0].removeprefix("local-") if arm.startswith("local-") else None


def family(arm: str) -> str:
    """Return the family of an arm: `ALONE`, `POOLED` or `FEDERATED`."""
    arm = arm.partition(ORIGIN)[0]
    pooled = (blended_from(arm) or arm) == "centralised"
    return ALONE if home(arm) is not None or arm == "local" else POOLED if pooled else FEDERATED


def arm_label(arm: str) -> str:
    """Return the name of an arm for readers: `BUSI alone`, `Centralised`, `FedAvg`, `FedAvg, runs/second`."""
    arm, _, origin = arm.partition(ORIGIN)
    if origin:
        return f"{arm_label(arm)}, {origin}"
    site = home(arm)
    if site is not None:
        return f"{site} alone"
    if arm == "local":
        return "Each its own model"
    if is_tuned(arm):
        return f"{arm_label(tuned_from(arm))}, fine-tuned"
    if is_blended(arm):
        return f"{arm_label(blended_from(arm))}, blended"
    return "Centralised" if arm == "centralised" else _STRATEGIES.get(arm, arm)


def arm_at_site(arm: str) -> str:
    """Return the name of an arm where one site is shown: `Own model`, `Centralised`, `FedAvg`."""
    return "Own model" if arm == "local" else arm_label(arm)


def suppressed(group: dict[str, Any], unit: str) -> str:
    """Explain why a subgroup is suppressed; `unit` is `patients` or `groups`."""
    if group["suppressed"] == "few":
        return f"suppressed: fewer than 10 {unit}"
    return "suppressed: would reveal a smaller subgroup"


def long_arm_label(arm: str) -> str:
    """Return `Centralised (pooled data)` for the centralised arm, for others the same as `arm_label`."""
    return POOLED if arm == "centralised" else arm_label(arm)


def site_label(site: str) -> str:
    """Return the name of a test set for readers."""
    return {ALL: "all test images", MEAN: "mean of sites"}.get(site, site)


def site_names(results: dict[str, Any]) -> list[str]:
    """List the sites in the order of the results."""
    return list(results["sites"])


def primary(results: dict[str, Any]) -> str:
    """Return the test set of the primary AUC: the mean of the sites, or `all` where that was not computed."""
    return MEAN if any(scores(results, arm, MEAN) for arm in results["arms"]) else ALL


def site_known_note(results: dict[str, Any]) -> str:
    """Describe what recognising the hospital alone is worth on all test images; empty if it was not computed."""
    found = ((results.get("site_known") or {}).get(ALL) or {}).get("auc")
    if not found:
        return ""
    return f"Hospital known, image not seen: AUC {with_interval(found)} on all test images, .500 at each site."


def test_sets(results: dict[str, Any]) -> list[str]:
    """List the test sets: `all`, then every site whose own figures are known."""
    return [ALL, *scored_sites(results)]


def scored_sites(results: dict[str, Any]) -> list[str]:
    """List the sites whose own figures are known: none where the hub has only sums."""
    return [] if totals_only(results) else site_names(results)


def totals_only(results: dict[str, Any]) -> bool:
    """Whether the hub that wrote the results has only sums over the sites (secure aggregation)."""
    return bool(results.get("tested_at"))


def ordered_arms(results: dict[str, Any]) -> list[str]:
    """List the arms: sites alone in the order of the sites, then centralised, then federated."""
    order = {name: place for place, name in enumerate(site_names(results))}
    families = [ALONE, POOLED, FEDERATED]
    arms = list(results["arms"])
    return sorted(
        arms,
        key=lambda arm: (
            families.index(family(arm)),
            order.get(home(arm) or "", len(order)),
            arms.index(arm),
        ),
    )


def shared_arms(results: dict[str, Any]) -> list[str]:
    """List the arms that all sites take part in: centralised and federated."""
    return [arm for arm in ordered_arms(results) if family(arm) != ALONE]


def scores(results: dict[str, Any], arm: str, site: str) -> dict[str, Any]:
    """Return the metrics of an arm at a site; empty if it was not scored there."""
    metrics: dict[str, Any] = results["arms"].get(arm, {}).get(site) or {}
    return metrics


def recall(results: dict[str, Any], arm: str, site: str, label: str) -> dict[str, Any] | None:
    """Return the recall (sensitivity) of a class; None if the site has no test images of it."""
    metric: dict[str, Any] | None = (scores(results, arm, site).get("sensitivity") or {}).get(label)
    return metric


def tested(results: dict[str, Any], site: str, label: str) -> int:
    """Count the test images of a class at a site, or at `all` of them."""
    sites = results.get(ALL_SITES, results["sites"])
    names = list(sites) if site == "all" else [site]
    return sum(sites.get(name, {}).get("splits", {}).get("test", {}).get(label, 0) for name in names)


def leading(results: dict[str, Any]) -> tuple[str, str]:
    """Return the two metrics that figures and summary lead with: AUC, or accuracy if AUC is unknown, and macro F1."""
    known = not results["arms"] or any(has_auc(results, place) for place in (ALL, MEAN))
    return ("auc" if known else "accuracy", "macro_f1")


def has_auc(results: dict[str, Any], site: str) -> bool:
    """Whether the AUC of an arm is known on a test set."""
    return any(scores(results, arm, site).get("auc") for arm in results["arms"])


def apart(results: dict[str, Any]) -> bool:
    """Whether the images stayed at the sites: only a run on one machine records their digests."""
    return not any("digest" in site for site in results["sites"].values())


def note_on_auc(results: dict[str, Any]) -> str:
    """Explain why there is no AUC on all test images; empty if there is one."""
    return PER_IMAGE if results["arms"] and apart(results) and not has_auc(results, ALL) else ""


def has_spread(results: dict[str, Any]) -> bool:
    """Whether arms were trained with several seeds."""
    return any("spread" in (scores(results, arm, "all").get("accuracy") or {}) for arm in results["arms"])


def size(results: dict[str, Any], site: str) -> str:
    """Describe the size of a test set, as the first arm that was scored on it records it."""
    for arm in results["arms"]:
        metrics = scores(results, arm, site)
        if "images" in metrics:
            return f"{metrics['images']} images in {metrics.get('groups', '?')} groups"
    return "not scored"


def duration(seconds: float) -> str:
    """Write seconds for readers: `48 s`, `5 min 1 s`, `2 h 3 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def markdown_cell(text: str) -> str:
    """Write text as one line of a table in GitHub markdown, where it can be neither markup nor a column's end."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def plain(value: object) -> str:
    """Write a setting as a reader would type it: text bare, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
