"""Arms that train nothing: at each site they blend the predictions of another arm and of the site's own model."""

from collections.abc import Callable, Mapping

from fedbus.evaluation.blend import blend
from fedbus.evaluation.predictions import Predictions, join
from fedbus.runs.checkpoint import arm_folder
from fedbus.settings.arms import blended_from
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm


def predict_blended(
    arm: Arm, settings: Settings, sites: Mapping[str, Site], predictions_of: Callable[[Arm], Predictions]
) -> Predictions:
    """Blend the predictions of two arms, each row with the own model of its site.

    Args:
        arm: A blended arm.
        settings: Settings of the comparison.
        sites: Sites by name.
        predictions_of: Returns another arm's predictions on the rows of all sites.

    Raises:
        RunError: If the arms were scored on different rows.
    """
    own = join([predictions_of(_arm(arm, settings, f"local-{site}")).select(site) for site in sites])
    return blend(own, predictions_of(_arm(arm, settings, blended_from(arm.name))))


def finish_blended(arm: Arm, settings: Settings) -> None:
    """Record a blended arm as finished; its work is that of the arms that it blends, all of them finished."""
    shared = _arm(arm, settings, blended_from(arm.name)).folder.read_facts()
    own = [_arm(arm, settings, f"local-{site}").folder.read_facts() for site in settings.sites]
    arm.folder.finish(
        {key: sum(facts[key] for facts in (shared, *own)) for key in ("steps", "seconds")}
        | {"best_round": shared["best_round"]}
    )


def _arm(arm: Arm, settings: Settings, name: str) -> Arm:
    """Another arm of the same run and seed."""
    return Arm(name, arm.seed, arm_folder(arm.out, settings, name, arm.seed))
