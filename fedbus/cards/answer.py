"""The answer to an item of a checklist: its status, its text, and the evidence in the run folder."""

from dataclasses import dataclass, replace
from typing import Literal

from fedbus.cards.evidence import Evidence

Status = Literal["filled", "for you to fill", "not done"]

STATUSES: tuple[Status, ...] = ("filled", "for you to fill", "not done")
"""In the order of the pages and of the terminal."""


@dataclass(frozen=True)
class Answer:
    """What a run says about one item.

    Attributes:
        status: `filled` if the run folder answers the whole item; `for you to fill` if only the authors can complete
            it; `not done` if the run did not do what the item asks about.
        text: What the run folder shows; may be empty where the authors fill everything.
        task: What the authors add; empty if the item is filled.
        evidence: Where the run folder shows it, see `fedbus.cards.evidence`.
    """

    status: Status
    text: str
    task: str = ""
    evidence: tuple[str, ...] = ()

    def checked(self, evidence: Evidence) -> "Answer":
        """Keep only evidence that exists; without any, an item is not filled but left to the authors."""
        found = tuple(pointer for pointer in self.evidence if evidence.exists(pointer))
        if self.status == "filled" and not found:
            return Answer("for you to fill", "", "The run folder contains no evidence for this item.")
        return replace(self, evidence=found)


def filled(text: str, *evidence: str) -> Answer:
    """Build the answer to an item that the run folder answers completely."""
    return Answer("filled", text, "", evidence)


def for_you(task: str, text: str = "", *evidence: str) -> Answer:
    """Build the answer to an item that the authors complete; `text` is what the run folder contributes."""
    return Answer("for you to fill", text, task, evidence)


def not_done(text: str, task: str = "") -> Answer:
    """Build the answer to an item about something that the run did not do; `task` says how to do it."""
    return Answer("not done", text, task)
