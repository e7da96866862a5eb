"""What tables and page show of a federation of very many sites: the extreme ones, and how the others are spread."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fedbus.reports import wording

MOST_SITES = 20
"""A table of more sites is too long to read."""

EXTREMES = 5
"""Sites shown at either end."""

NOTE = "sites_note"
"""Where the reduced results describe the sites that are left out."""


def few_sites(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results with at most `MOST_SITES` sites; `results.json` keeps all.

    With more, only the sites remain at which the first federated arm has its lowest and its highest AUC. Figures of all
    sites together stay as they are.

    Args:
        results: Content of `results.json`.
    """
    names = wording.site_names(results)
    if len(names) <= MOST_SITES:
        return results
    aucs = _aucs(results, names)
    ranked = sorted(aucs, key=lambda name: aucs[name]) or names
    kept = {*ranked[:EXTREMES], *ranked[-EXTREMES:]}
    left_out = {name for name in names if name not in kept}
    left_out |= {f"local-{name}" for name in left_out}
    rows = [row for row in results.get("differences", []) if not left_out & {row["site"], row["reference"]}]
    return results | {
        "sites": _without(results["sites"], left_out),
        "arms": {arm: _without(places, left_out) for arm, places in _without(results["arms"], left_out).items()},
        "differences": rows,
        "settings": _settings(results["settings"], left_out),
        "federation": {arm: _of_sites(record, left_out) for arm, record in results.get("federation", {}).items()},
        **{key: _without(results[key], left_out) for key in ("work", "subgroups", "site_known") if results.get(key)},
        **{
            key: results[key] | {"arms": _without(results[key]["arms"], left_out)}
            for key in ("calibration", "membership")
            if (results.get(key) or {}).get("arms")
        },
        wording.ALL_SITES: results["sites"],
        "claims": {arm: _of_claims(found, left_out) for arm, found in (results.get("claims") or {}).items()},
        NOTE: _describe(results, names, len(kept), list(aucs.values())),
    }


def shown(by_site: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of sites that reduced results show."""
    return {site: value for site, value in by_site.items() if site in results["sites"]}


def _aucs(results: dict[str, Any], names: list[str]) -> dict[str, float]:
    """Return the AUC of the first federated arm (or the first arm of all sites) at each site that has one."""
    arm = _ranking_arm(results)
    found = {name: (wording.scores(results, arm, name).get("auc") or {}).get("value") for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _ranking_arm(results: dict[str, Any]) -> str:
    arms = wording.shared_arms(results)
    return next((arm for arm in arms if wording.family(arm) == wording.FEDERATED), arms[0] if arms else "")


def _without(by_name: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in by_name.items() if name not in left_out}


def _of_sites(record: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Return an arm's rounds with the participants and refusals of the sites that are shown."""
    rounds = [
        line
        | {
            "participants": [site for site in line.get("participants", []) if site not in left_out],
            "refused": _without(line.get("refused", {}), left_out),
        }
        for line in record["rounds"]
    ]
    return {**record, "rounds": rounds}


def _settings(settings: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    return {**settings, **({"sites": _without(settings["sites"], left_out)} if settings.get("sites") else {})}


def _of_claims(claims: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    return {**claims, "sites": _without(claims["sites"], left_out)}


def _describe(results: dict[str, Any], names: list[str], kept: int, aucs: list[float]) -> str:
    if not aucs:
        return f"{kept} of {len(names)} sites are shown; results.json has all."
    least, low, median, high, most = (wording.number(value) for value in np.quantile(aucs, (0, 0.25, 0.5, 0.75, 1)))
    absent = {
        site
        for record in results.get("federation", {}).values()
        for line in record["rounds"]
        for site in {*names} - {*line.get("participants", [])}
    }
    missing = f" {len(absent)} sites were missing or refused in at least one round." if absent else ""
    return (
        f"{kept} of {len(names)} sites are shown, those with the lowest and the highest AUC of "
        f"{wording.arm_label(_ranking_arm(results))}; results.json has all. AUC at {len(aucs)} sites: "
        f"median {median}, half of them from {low} to {high}, least {least}, most {most}.{missing}"
    )
