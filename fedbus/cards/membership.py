"""The membership audit on a model card: one line per arm, and what it does not prove."""

from fedbus.cards.markdown import prose
from fedbus.cards.run import FinishedRun
from fedbus.reports.membership import LIMITS, membership_sentences, notes


def membership_lines(run: FinishedRun) -> list[str]:
    """Write what an attack found out about the training patients, as the mean of the sites that were attacked."""
    membership = run.results.get("membership")
    if not membership:
        return ["Whether the models give away their training patients was not measured."]
    found = [*membership_sentences(run.results), *notes(membership)]
    lead = "Likelihood-ratio test without shadow models, on pairs of a training and a test patient of the same site."
    return [lead, "", *(f"- {prose(sentence)}" for sentence in found), "", prose(LIMITS)]
