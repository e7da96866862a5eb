"""A reporting checklist: its items, their answers for a run, and its page in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedbus.cards.answer import STATUSES, Answer
from fedbus.cards.evidence import Evidence
from fedbus.cards.markdown import code, first_lines, prose
from fedbus.cards.run import FinishedRun


@dataclass(frozen=True)
class Item:
    """One item or sub-item of a published checklist.

    Attributes:
        number: Its published number: `7` or `12c`.
        section: The part of a paper that it belongs to.
        topic: What it asks about, in words of this project.
        answer: Its answer, or what builds the answer from a run.
    """

    number: str
    section: str
    topic: str
    answer: Answer | Callable[[FinishedRun], Answer]


@dataclass(frozen=True)
class Checklist:
    """A published checklist.

    Attributes:
        file: Name of its page.
        title: Its name.
        source: The publication.
        items: Its items in the published order.
    """

    file: str
    title: str
    source: str
    items: tuple[Item, ...]

    def answers(self, run: FinishedRun) -> dict[str, Answer]:
        """Answer every item for a run, by number; evidence that the run folder lacks is left out."""
        evidence = Evidence(run.path)
        found = {item.number: item.answer(run) if callable(item.answer) else item.answer for item in self.items}
        return {number: answer.checked(evidence) for number, answer in found.items()}


def numbers_by_status(answers: Mapping[str, Answer]) -> dict[str, list[str]]:
    """List the numbers of the items of each status."""
    return {status: [number for number, answer in answers.items() if answer.status == status] for status in STATUSES}


def checklist_page(checklist: Checklist, run: FinishedRun) -> str:
    """Write a checklist as Markdown: the numbers by status, then every item with answer and evidence."""
    answers = checklist.answers(run)
    lines = [
        *first_lines(run),
        f"# {checklist.title}",
        "",
        f"Items after {checklist.source} The topics are in our own words; what counts is the published list.",
        "",
        "- **filled**: the run folder answers the whole item.",
        "- **for you to fill**: the run folder contributes what is written here; the rest is known only to you.",
        "- **not done**: the run did not do it.",
        "",
        "Evidence is a file of the run folder; behind `#` is the key in it (a JSON pointer).",
        "",
        "| Status | Items | Numbers |",
        "| --- | --- | --- |",
        *(
            f"| {status} | {len(numbers)} | {', '.join(numbers) or 'none'} |"
            for status, numbers in numbers_by_status(answers).items()
        ),
    ]
    section = ""
    for item in checklist.items:
        if item.section != section:
            section = item.section
            lines += ["", f"## {section}"]
        lines += ["", *_item(item, answers[item.number])]
    return "\n".join(lines) + "\n"


def _item(item: Item, answer: Answer) -> Sequence[str]:
    """Write one item: heading, status, what the run shows, what to add, and where the evidence is."""
    lines = [f"### {item.number}. {item.topic}", "", f"**{answer.status}**"]
    lines += ["", prose(answer.text)] if answer.text else []
    lines += ["", f"*To do:* {prose(answer.task)}"] if answer.task else []
    if answer.evidence:
        lines += ["", f"Evidence: {', '.join(code(pointer) for pointer in answer.evidence)}"]
    return lines
