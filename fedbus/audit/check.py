"""The check of an audit log when a hub or a site starts, and its display for the operator."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedbus.audit.chain import Chain
from fedbus.audit.entry import Entry
from fedbus.audit.head import HEAD_MISSING
from fedbus.audit.log import AuditLog
from fedbus.system.terminal import BAD, GOOD
from fedbus.text import plain_text

if TYPE_CHECKING:
    from rich.console import Console

BROKEN = "broken chain found"

MOST_FAULTS = 10
"""Faults that are printed and recorded; of a file that another program has rewritten, every line is one."""

SHOWN_OF_A_DIGEST = 12
"""Characters; a row of the table has room for a few, and the file has all of them."""

LEAST_OF_DETAILS = 30
"""Width of their column, in characters; in a narrower window they are below the rest of the row."""

_DIGEST = re.compile("[0-9a-f]{32,64}")


def check_at_start(log: AuditLog, tell: Callable[[str], object]) -> None:
    """Tell how a log ends, or loudly what is broken, and record that unless it is recorded already.

    The start continues: a data manager must be able to work, and a broken log stays broken.

    Args:
        log: The log of a hub or a site.
        tell: Called with each line of text.

    Raises:
        RunError: If the log can't be read.
    """
    chain = log.read()
    if not chain.faults:
        tell(f"audit log: {_end_of(chain)}")
        return
    for line in _describe_faults(log, chain):
        tell(f"WARNING: {line}")
    faults = chain.faults[:MOST_FAULTS]
    recorded = [entry.details.get("faults") for entry, _ in chain.entries if entry.event == BROKEN]
    if faults not in recorded:
        log.note(BROKEN, faults=faults, number=len(chain.faults))


def print_log(log: AuditLog, console: "Console") -> int:
    """Print all entries as a table, and whether the chain is intact.

    Returns:
        The exit code: 1 if the chain is broken, otherwise 0.

    Raises:
        RunError: If the log can't be read.
    """
    chain = log.read()
    if chain.entries:
        for row in _rows(chain, console.width):
            print(row, file=console.file)
        print(file=console.file)
    if chain.torn:
        console.print(
            f"The last line is incomplete, as after a power cut ({chain.torn} bytes). The next entry names it."
        )
    if chain.faults:
        for line in _describe_faults(log, chain):
            console.print(f"✘ {line}", style=BAD, markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(f"✔ {log.path}: {_end_of(chain)}", style=GOOD, markup=False, highlight=False, soft_wrap=True)
    for entry, _ in chain.entries:
        if entry.event in (BROKEN, HEAD_MISSING):
            console.print(f"✘ Entry {entry.number} records an earlier fault: {entry.event}.", style=BAD)
    if chain.entries and chain.entries[0][0].event != "init":
        console.print("It does not begin with init: the folder is older than its log, or an earlier log was removed.")
    if chain.entries:
        console.print(
            "Note number and digest elsewhere: anyone who can write this folder could rewrite the whole log, and only "
            "a digest kept elsewhere shows that."
        )
    return 0


def _end_of(chain: Chain) -> str:
    if not chain.entries:
        return "no entries yet"
    entry, digest = chain.entries[-1]
    counted = f"{len(chain.entries)} {'entry' if len(chain.entries) == 1 else 'entries'}"
    return f"{counted}, chain intact; the last is {entry.number} with SHA-256 {digest}"


def _describe_faults(log: AuditLog, chain: Chain) -> Iterator[str]:
    yield f"The audit log {log.path} was changed; its chain is broken:"
    yield from chain.faults[:MOST_FAULTS]
    if len(chain.faults) > MOST_FAULTS:
        yield f"and {len(chain.faults) - MOST_FAULTS} further faults"
    yield "Find out who could write it, and compare it with a backup. The break stays on record."


def _rows(chain: Chain, width: int) -> Iterator[str]:
    """Lay out the entries in columns, details last and wrapped; Rich takes a minute for ten thousand of them."""
    head = ("No.", "Time (UTC)", "SHA-256", "Event", "Details")
    cells = [head, *(_cells_of(entry, digest) for entry, digest in chain.entries)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    left = sum(widths) + 2 * len(widths)
    beside = width - left >= LEAST_OF_DETAILS
    indent = " " * (left if beside else 2)
    for row in cells:
        start = "".join(f"{cell:{size}}  " for cell, size in zip(row[:4], widths, strict=True))
        details = textwrap.wrap(row[4], max(width - len(indent), LEAST_OF_DETAILS), break_on_hyphens=False)
        if beside and details:
            start += details.pop(0)
        yield "\n".join([start.rstrip(), *(indent + line for line in details)])


def _cells_of(entry: Entry, digest: str) -> tuple[str, str, str, str, str]:
    time = plain_text(entry.time).replace("T", " ").removesuffix("+00:00")
    return str(entry.number), time, digest[:SHOWN_OF_A_DIGEST], plain_text(entry.event), describe(entry.details)


def describe(details: Mapping[str, Any]) -> str:
    """Return details on one line, digests shortened."""
    return "; ".join(f"{plain_text(key)}: {_describe_value(value)}" for key, value in details.items())


def _describe_value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_describe_value(each) for each in value) or "none"
    text = plain_text(value)
    return f"{text[:SHOWN_OF_A_DIGEST]}…" if _DIGEST.fullmatch(text) else text
