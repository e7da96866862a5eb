"""What a report says about differential privacy: what was spent where, what it covers, and what it does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedbus.reports import wording
from fedbus.settings.arms import blended_from, is_blended

History = Sequence[Mapping[str, Any]]
"""The rounds of an arm."""


def is_private(results: Mapping[str, Any]) -> bool:
    """Whether a run protected its patients; runs of earlier versions did not."""
    return bool(results["settings"].get("dp-epsilon"))


def privacy_sentences(results: dict[str, Any]) -> list[str]:
    """Say what the guarantee is and is not; empty without one."""
    if not is_private(results):
        return []
    settings = results["settings"]
    sentences = [
        f"Each training keeps (epsilon, delta) = ({settings['dp-epsilon']:g}, {settings['dp-delta']:g}) for every "
        "patient, that is, for all training images of a patient or group at a site together: whether they were used "
        "changes the probability of any model by at most the factor exp(epsilon), but for delta. Gradients of a "
        f"patient were clipped to {settings['dp-clip']:g} (DP-SGD, Rényi accounting by Opacus).",
        "Not covered: the counts of images and groups, the patients of validation and test and all figures about "
        "them, the choice of the best round, temperature and threshold, and, in a model's folder, the hashes and "
        "features of training images.",
    ]
    if len(results["arms"]) > 1 or len(settings.get("seeds", ())) > 1:
        sentences.append(
            "Every arm and every seed is a training of its own. Who sees several of these models has to add up their "
            "epsilons for a patient of all of them."
        )
    if not wording.apart(results):
        sentences.append(
            "In this comparison the noise follows from the seed, so that it can be repeated: it shows what the "
            "guarantee costs. Its models are protected only against those who do not know the seed."
        )
    return sentences


def epsilon_rows(results: Mapping[str, Any], histories: Mapping[str, History]) -> list[dict[str, Any]]:
    """List what was spent, arm by arm, in the first seed.

    Args:
        results: Content of `results.json`.
        histories: The rounds of each arm; arms may be missing.

    Returns:
        {"label", "owner", "first", "half", "last"}: the arm, a site or "all sites, pooled", and the epsilon after the
        first round, half of the rounds and the last one, as text. A blended arm has only the last: the sum of what
        the two models spent that it blends.
    """
    work = results.get("work", {})
    rows = []
    for arm in wording.ordered_arms(dict(results)):
        for owner, spent in work.get(arm, {}).get("epsilon", {}).items():
            lines = [line["epsilon"][owner] for line in histories.get(arm, ()) if owner in line.get("epsilon", {})]
            rows.append(
                {
                    "label": wording.arm_label(arm),
                    "owner": "all sites, pooled" if owner == "pooled" else owner,
                    "first": _text(lines[0]) if lines else wording.MISSING,
                    "half": _text(lines[(len(lines) - 1) // 2]) if lines else wording.MISSING,
                    "last": _text(spent),
                }
            )
        if is_blended(arm):
            rows += _blended(arm, work)
    return rows


def _blended(arm: str, work: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add up what a blended arm's shared model and each site's own have spent."""
    shared = work.get(blended_from(arm), {}).get("epsilon", {})
    own = {
        site: spent
        for name in work
        if name.startswith("local-")
        for site, spent in work[name].get("epsilon", {}).items()
    }
    return [
        {
            "label": wording.arm_label(arm),
            "owner": site,
            "first": wording.MISSING,
            "half": wording.MISSING,
            "last": _text(spent + (shared[site] if site in shared else shared["pooled"])),
        }
        for site, spent in own.items()
        if shared
    ]


def _text(epsilon: float) -> str:
    return f"{epsilon:.2f}"
