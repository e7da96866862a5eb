"""What the paired differences of a federated arm show: not worse than centralised training, and who gains by joining.

A claim is shown only by an interval: an interval that includes the bound shows neither the claim nor its opposite.
"""

from collections.abc import Mapping
from typing import Any

MARGIN = 0.01
"""How much worse than centralised training still counts as not worse, in AUC."""

Differences = Mapping[str, Mapping[str, Mapping[str, dict[str, float] | None]]]
"""Paired differences of one arm, by reference arm, place and metric."""


def claims(differences: Differences) -> dict[str, Any]:
    """Decide the claims of one federated arm from its paired differences in AUC.

    Returns:
        "margin": `MARGIN`. "not_worse": by centralised arm, the difference of the mean over sites with "verdict",
        `shown` if the lower end of the interval is above -`MARGIN`, else `not shown`. "sites": by site, and as `mean`
        over the sites, the difference to the sites' own models with "verdict": `gains` or `loses` if the interval
        excludes 0, else `not shown`. Undefined differences are left out.
    """
    not_worse, sites = {}, {}
    for reference, places in differences.items():
        alone = reference == "local" or reference.startswith("local-")
        place = reference.removeprefix("local-") if reference.startswith("local-") else "mean"
        found = places.get(place, {}).get("auc")
        if found is not None and alone:
            verdict = "gains" if found["low"] > 0 else "loses" if found["high"] < 0 else "not shown"
            sites[place] = {**found, "verdict": verdict}
        elif found is not None:
            not_worse[reference] = {**found, "verdict": "shown" if found["low"] > -MARGIN else "not shown"}
    return {"margin": MARGIN, "not_worse": not_worse, "sites": sites}
