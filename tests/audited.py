"""An invented membership audit for the tests of the reports. No figure here was measured."""

from typing import Any


def figure(value: float, half: float = 0.03) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def sample_membership(sites: tuple[str, ...] = ("BUSI", "BUS-BRA"), few: str = "BUS-UCLM") -> dict[str, Any]:
    """The entry "membership" of `results.json`: own models give patients away, FedAvg does not."""
    attack = {"local": 0.81, "centralised": 0.62, "fedavg": 0.51}
    facts = {
        site: {"members": 420, "non_members": 130 + place, "left_out": ["normal"] * place, "reason": ""}
        for place, site in enumerate(sites)
    }
    few_facts = {"members": 24, "non_members": 7, "left_out": [], "reason": "7 test groups; 10 are needed"}
    arms = {
        arm: {
            place: {"auc": figure(auc), "tpr_at_1": figure(auc - 0.49, 0.02), "tpr_at_5": figure(auc - 0.4, 0.02)}
            for place in (*sites, "mean")
        }
        for arm, auc in attack.items()
    }
    return {"reason": "", "sites": facts | {few: few_facts}, "arms": arms}
