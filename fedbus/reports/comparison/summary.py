"""The findings of a comparison in sentences computed from its figures, and cautions for its readers."""

from typing import Any

from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.reports.calibration import missing_thresholds
from fedbus.reports.claims import claim_sentences
from fedbus.reports.comparison.few_sites import NOTE


def findings(results: dict[str, Any]) -> list[str]:
    """Compare federated with centralised and local training; each difference has its interval and verdict."""
    federated = [arm for arm in wording.ordered_arms(results) if wording.family(arm) == wording.FEDERATED]
    sentences = [_against_centralised(results, arm) for arm in federated]
    if not federated:
        sentences.append("No federated arm was run.")
        if "centralised" in results["arms"]:
            sentences.append(f"Centralised training on the pooled images reached {_reached(results, 'centralised')}.")
    sentences.append(_alone(results))
    sentences += [sentence(results, arm) for sentence in (_at_each_site, _claims) for arm in federated]
    sentences.append(wording.site_known_note(results))
    return [sentence for sentence in sentences if sentence]


def cautions(results: dict[str, Any]) -> list[str]:
    """List what to read with care: lost classes, few groups, unequal work, refused updates, one seed, notes on data."""
    return [
        *([results[NOTE]] if NOTE in results else []),
        *(_lost_classes(results, arm) for arm in wording.shared_arms(results) if _lost(results, arm)),
        *_few_groups(results),
        *_unequal_work(results),
        *_refusals(results),
        *_unscored(results),
        *_tested_at_fewer(results),
        *_one_seed(results),
        *missing_thresholds(results.get("calibration")),
        *(f"{site}: {note}." for site, facts in results["sites"].items() for note in facts.get("notes", [])),
    ]


def find_difference(results: dict[str, Any], arm: str, reference: str, site: str, metric: str) -> dict[str, Any] | None:
    """Return one paired difference; None if it was not computed."""
    for row in results.get("differences", []):
        if (row["arm"], row["reference"], row["site"], row["metric"]) == (arm, reference, site, metric):
            found: dict[str, Any] = row
            return found if found.get("value") is not None else None
    return None


def _leading(results: dict[str, Any], arm: str) -> str:
    """Write what is known on all test images: the AUC, or else accuracy and macro F1."""
    found = wording.scores(results, arm, "all")
    shown = ("auc",) if wording.has_auc(results, ALL) else ("accuracy", "macro_f1")
    return " and ".join(f"{wording.METRICS[metric]} {wording.with_interval(found.get(metric))}" for metric in shown)


def _auc(results: dict[str, Any], arm: str, site: str = "all") -> str:
    return wording.with_interval(wording.scores(results, arm, site).get("auc"))


def _reached(results: dict[str, Any], arm: str) -> str:
    """Write the leading figures of an arm, with the test set of each."""
    if wording.primary(results) == MEAN:
        everywhere = _auc(results, arm) if wording.has_auc(results, ALL) else _leading(results, arm)
        return f"AUC {_auc(results, arm, MEAN)} as the mean of the sites and {everywhere} on all test images"
    return f"{_leading(results, arm)} on all test images"


def _against_centralised(results: dict[str, Any], arm: str) -> str:
    text = f"Federated training ({wording.arm_label(arm)}) reached {_reached(results, arm)}"
    if "centralised" not in results["arms"]:
        return f"{text}." if wording.apart(results) else f"{text}; no centralised arm was run."
    lead, place = wording.leading(results)[0], wording.primary(results)
    if place == MEAN:
        centralised = f"{_auc(results, 'centralised', MEAN)} and {_auc(results, 'centralised')}"
    else:
        centralised = _auc(results, "centralised") if lead == "auc" else _leading(results, "centralised")
    text += f"; centralised training on the pooled images reached {centralised}."
    difference = find_difference(results, arm, "centralised", place, lead)
    if difference is None:
        return text
    found = wording.with_interval(difference, signed=True)
    what = "Difference of the means" if place == MEAN else "Difference"
    return f"{text} {what} {found}: {wording.verdict_sentence(difference)}."


def _alone(results: dict[str, Any]) -> str:
    alone = [
        (wording.scores(results, arm, "all")["auc"]["value"], wording.home(arm), _auc(results, arm))
        for arm in wording.ordered_arms(results)
        if wording.home(arm) is not None and wording.scores(results, arm, "all").get("auc")
    ]
    if not alone:
        return ""
    low, high = min(alone, key=lambda row: row[0]), max(alone, key=lambda row: row[0])
    if len(alone) == 1:
        return f"Training alone, {low[1]} reached AUC {low[2]} on all test images."
    return (
        f"Sites that trained alone reached, on the same images, between AUC {low[2]} ({low[1]}) "
        f"and {high[2]} ({high[1]})."
    )


def _at_each_site(results: dict[str, Any], arm: str) -> str:
    """Write the AUC at each site, if it is unknown on all test images."""
    known = [site for site in wording.site_names(results) if wording.scores(results, arm, site).get("auc")]
    if wording.leading(results)[0] == "auc" or not known:
        return ""
    found = "; ".join(f"{site} {_auc(results, arm, site)}" for site in known)
    return f"AUC of {wording.arm_label(arm)} on each site's test images: {found}."


def _claims(results: dict[str, Any], arm: str) -> str:
    found = (results.get("claims") or {}).get(arm)
    return " ".join(claim_sentences(arm, found)) if found else ""


def _lost(results: dict[str, Any], arm: str) -> list[str]:
    lost = []
    for site in wording.test_sets(results):
        for label in results["classes"]:
            found = wording.recall(results, arm, site, label)
            if found and found["value"] < wording.GUESSING:
                lost.append(f"{label} on {wording.site_label(site)} {wording.value(found)}")
    return lost


def _lost_classes(results: dict[str, Any], arm: str) -> str:
    return (
        f"{wording.arm_label(arm)} finds fewer images of a class than random guessing "
        f"(recall below {wording.number(wording.GUESSING)}): {'; '.join(_lost(results, arm))}."
    )


def _few_groups(results: dict[str, Any]) -> list[str]:
    few = {}
    for site in wording.site_names(results):
        counts = [wording.scores(results, arm, site).get("groups") for arm in results["arms"]]
        groups = next((count for count in counts if count is not None), None)
        if groups is not None and groups < wording.FEW_GROUPS:
            few[site] = groups
    return [
        f"{site} has only {groups} test groups: its intervals are likely too narrow." for site, groups in few.items()
    ]


def _unequal_work(results: dict[str, Any]) -> list[str]:
    steps = {arm: work["steps"] for arm, work in results.get("work", {}).items() if "steps" in work}
    shared = {arm: steps[arm] for arm in wording.shared_arms(results) if arm in steps}
    if len(set(shared.values())) < 2:
        return []
    listed = ", ".join(f"{wording.arm_label(arm)} {count}" for arm, count in shared.items())
    return [f"Centralised and federated arms did not take the same number of optimiser steps: {listed}."]


def _refusals(results: dict[str, Any]) -> list[str]:
    sentences = []
    for arm, record in results.get("federation", {}).items():
        short = [entry["round"] for entry in record["rounds"] if len(entry["participants"]) < len(results["sites"])]
        if short:
            share = f"{len(short)} of {len(record['rounds'])}"
            sentences.append(
                f"{wording.arm_label(arm)}: in {share} rounds a site was missing or its update was refused."
            )
    return sentences


def _unscored(results: dict[str, Any]) -> list[str]:
    if not wording.apart(results) or wording.totals_only(results):
        return []
    without = [site for site in wording.site_names(results) if not all(site in arm for arm in results["arms"].values())]
    if not without:
        return []
    return [
        f"Not every model was scored at {', '.join(without)}. In every arm, “all test images” are those of the other "
        "sites."
    ]


def _tested_at_fewer(results: dict[str, Any]) -> list[str]:
    """Name the arms whose totals are not of all sites or seeds, so that they are of other images than the others."""
    sites, seeds = wording.site_names(results), results["settings"].get("seeds", [])
    fewer = []
    for arm, found in (results.get("tested_at") or {}).items():
        without = [site for site in sites if site not in found["sites"]]
        without += [f"seed {seed}" for seed in seeds if seed not in found["seeds"]]
        if without:
            fewer.append(f"{wording.arm_label(arm)} without {', '.join(without)}")
    return [f"Figures are only of the sites that took part in the test: {'; '.join(fewer)}."] if fewer else []


def _one_seed(results: dict[str, Any]) -> list[str]:
    if wording.has_spread(results):
        return []
    return ["Every arm was trained once. Another seed would give other figures; how different is unknown."]
