"""The membership audit of a comparison: do the tested models give away which patients they were trained on?"""

from collections.abc import Mapping, Sequence
from typing import Any

from fedbus.evaluation.membership_attack import AuditedFolds, measure_membership
from fedbus.evaluation.predictions import Predictions, join
from fedbus.settings.arms import OWN
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm
from simulations.scoring import TRAINING_FILE, score_training

LEAKY = "The split leaks on purpose: images of the test set were used for training, so there are no non-members."

ELSEWHERE = "The models' weights are on another machine, so their training images could not be predicted here."

Pairs = Mapping[str, Sequence[tuple[Arm, Predictions]]]
"""For each arm's name, one pair (arm, predictions on the test rows) per seed."""


def audit_membership(settings: Settings, sites: Mapping[str, Site], runs: Pairs) -> dict[str, Any]:
    """Build the entry "membership" of `results.json`; predicts the training rows of every arm that was not audited.

    Args:
        settings: Settings of the run.
        sites: The prepared sites, by name.
        runs: The arms of the run.

    Returns:
        What `measure_membership` returns, and "reason", why nothing was measured; else empty. The arms are `local`,
        each site's own model at its site, and all others that were trained; blended ones combine two of these.
    """
    trained = {name: pairs for name, pairs in runs.items() if not pairs[0][0].blended}
    reason = why_not_audited(settings, [arm for pairs in trained.values() for arm, _ in pairs])
    if reason:
        return {"reason": reason, "sites": {}, "arms": {}}
    audited = {
        name: [[(score_training(arm, settings, sites), test) for arm, test in pairs]] for name, pairs in trained.items()
    }
    arms = with_own_models(audited, list(sites))
    return {"reason": "", **measure_membership(arms, list(sites), settings.bootstrap, settings.draw_seed)}


def why_not_audited(settings: Settings, arms: Sequence[Arm]) -> str:
    """Explain why the trained arms of a run can't be audited; empty if they can."""
    if settings.split != "groups":
        return LEAKY
    return "" if all(arm.has_weights or (arm.folder.path / TRAINING_FILE).is_file() for arm in arms) else ELSEWHERE


def with_own_models(audited: Mapping[str, AuditedFolds], sites: Sequence[str]) -> dict[str, AuditedFolds]:
    """Replace the arms of single sites by the arm `local`: each site's rows as its own model predicts them."""
    own = {site: audited[f"local-{site}"] for site in sites if f"local-{site}" in audited}
    shared = {name: folds for name, folds in audited.items() if name.removeprefix("local-") not in own}
    if not own:
        return shared
    joined = [
        [
            tuple(join([pair[side].select(site) for site, pair in zip(own, pairs, strict=True)]) for side in (0, 1))
            for pairs in zip(*seeds, strict=True)
        ]
        for seeds in zip(*own.values(), strict=True)
    ]
    return {OWN: [[(members, others) for members, others in runs] for runs in joined], **shared}
