"""The membership audit in words: what its figures mean, for report, study and model card."""

from typing import Any

from fedbus.evaluation.site_mean import MEAN
from fedbus.reports import wording

GUESSING = 0.5
"""The AUC of an attack that guesses."""

LEVEL_NAMES = {"tpr_at_1": "1 %", "tpr_at_5": "5 %"}
"""The false-positive rate of each true-positive rate."""

LIMITS = (
    "The audit is a lower bound: it is one attack, and a stronger one may recognise more patients. An attack that "
    "fails proves nothing. Only differential privacy (dp-epsilon) bounds every attack from above."
)


def audited_arms(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures of the attack by arm and place; empty without an audit, or where no site has enough groups."""
    arms: dict[str, dict[str, Any]] = (results.get("membership") or {}).get("arms", {})
    return arms


def attacked_sites(membership: dict[str, Any]) -> list[str]:
    """List the sites that were attacked."""
    return [site for site, facts in membership["sites"].items() if not facts["reason"]]


def shown_level(arms: dict[str, dict[str, Any]]) -> str:
    """Choose the true-positive rate to show: at 1 % false positives if every site has the groups for it, else at 5 %.

    Args:
        arms: The figures by arm and place; the sites are the same in all arms.
    """
    figures = [places[place]["tpr_at_1"] for places in arms.values() for place in places]
    return "tpr_at_1" if all(figures) else "tpr_at_5"


def reading(auc: dict[str, Any]) -> str:
    """Return `recognises patients` if the interval of an AUC is above guessing, else `cannot tell`."""
    return "recognises patients" if auc["low"] > GUESSING else "cannot tell"


def membership_sentences(results: dict[str, Any]) -> list[str]:
    """Write one sentence per arm, from the mean of the sites that were attacked."""
    return [_sentence(arm, places[MEAN]["auc"]) for arm, places in audited_arms(results).items()]


def notes(membership: dict[str, Any]) -> list[str]:
    """List what was not attacked, and why."""
    if membership["reason"]:
        return [membership["reason"]]
    found, arms = [], membership["arms"]
    level = shown_level(arms)
    for site, facts in membership["sites"].items():
        if facts["reason"]:
            found.append(f"{site} was not attacked: {facts['reason']}.")
            continue
        if facts["left_out"]:
            listed = " and ".join(facts["left_out"])
            found.append(f"{site}: {listed} images were left out, because too few test groups have them.")
        if any(places[site][level] is None for places in arms.values()):
            found.append(f"{site} has too few test groups for a true-positive rate; its mean is over the other sites.")
    return found


def _sentence(arm: str, auc: dict[str, Any]) -> str:
    share, low, high = (f"{100 * auc[key]:.0f}" for key in ("value", "low", "high"))
    found = f"{wording.arm_label(arm)}: the attack names the training patient in {share} % of pairs ({low}–{high} %)"
    if auc["low"] > GUESSING:
        return f"{found}: the model gives away who took part."
    return f"{found}: it cannot tell them apart."
