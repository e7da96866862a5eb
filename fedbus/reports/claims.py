"""The claims of federated arms in sentences: not worse than centralised training, and who gains by joining."""

from typing import Any

from fedbus.reports import wording


def claim_sentences(arm: str, claims: dict[str, Any]) -> list[str]:
    """Write what one federated arm shows; empty if nothing could be compared.

    Args:
        arm: The arm.
        claims: What `fedbus.evaluation.claims.claims` returns for it.
    """
    sentences = []
    margin = wording.number(claims["margin"]).rstrip("0")
    for reference, found in claims["not_worse"].items():
        claim = f"{wording.arm_label(arm)} is not worse than {wording.arm_label(reference)} by more than {margin} AUC"
        difference = wording.with_interval(found, signed=True)
        sentences.append(f"{claim}, mean of sites: {found['verdict']}. Difference {difference}.")
    sites = [
        f"{wording.site_label(site)} {found['verdict']}, {wording.with_interval(found, signed=True)}"
        for site, found in claims["sites"].items()
    ]
    if sites:
        sentences.append(
            f"What a site gains by joining, on its own test images (AUC of {wording.arm_label(arm)} minus that of its "
            f"own model): {'; '.join(sites)}."
        )
    return sentences


def terminal_claims(results: dict[str, Any]) -> str:
    """Write the claims of a comparison's federated arms for the terminal, one per line; empty without any."""
    found = results.get("claims") or {}
    sentences = [sentence for arm, claims in found.items() for sentence in claim_sentences(arm, claims)]
    return "\n".join(["Claims", *sentences, ""]) if sentences else ""
