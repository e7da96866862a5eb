"""Whether the lines of an audit log are those that were written: each names the digest of the one before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedbus.audit.entry import NO_LINE, Entry, digest_of
from fedbus.audit.head import HEAD_FILE, Head


@dataclass
class Chain:
    """What a log contains.

    Attributes:
        entries: Its entries and their digests, in the order of the file; without lines that are none.
        faults: What differs from what was written, one sentence each; empty for an intact chain.
        torn: Bytes of an incomplete last line, as a power cut leaves it.
    """

    entries: list[tuple[Entry, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    torn: int = 0


def read_chain(content: bytes, head: Head | None) -> Chain:
    """Check the content of a log against the digests in it and against its head.

    A line that was changed, removed, inserted or moved is found by the line after it, the last one by the head. After a
    fault, the check continues with the line as it is found, so that each fault is named once.

    Args:
        content: The whole file.
        head: The head; None if it is missing or damaged.
    """
    *lines, rest = content.split(b"\n")
    chain = Chain(torn=len(rest))
    chain.faults += _check_lines(lines, chain)
    chain.faults += _check_end(chain, head, len(lines))
    return chain


def _check_lines(lines: Sequence[bytes], chain: Chain) -> Iterator[str]:
    number, previous = 0, NO_LINE
    for position, line in enumerate(lines, start=1):
        digest = digest_of(line)
        try:
            entry = Entry.from_line(line)
        except ValueError as error:
            yield f"line {position} is not an entry ({error})"
            number, previous = number + 1, ""  # what the next line has to name is not known
            continue
        if entry.number > number + 1:
            yield missing(number + 1, entry.number - 1)
        elif entry.number <= number:
            yield f"line {position} has number {entry.number}, but comes after number {number}"
        elif previous and entry.previous != previous:
            yield changed(position - 1) if position > 1 else "line 1 names a line before it"
        chain.entries.append((entry, digest))
        number, previous = entry.number, digest


def _check_end(chain: Chain, head: Head | None, lines: int) -> Iterator[str]:
    """Compare the log with its head, which can be behind after a power cut, and never ahead."""
    if head is None:
        if lines:
            yield f"{HEAD_FILE} is missing or damaged, so lines may have been cut off at the end"
        return
    last = max((entry.number for entry, _ in chain.entries), default=0)
    if last < head.number:
        yield missing(last + 1, head.number)
    elif head.number and (head.number, head.sha256) not in {(entry.number, digest) for entry, digest in chain.entries}:
        yield changed(lines - (last - head.number))


def missing(first: int, last: int) -> str:
    """The fault that entries are missing."""
    return f"entries {first} to {last} are missing" if last > first else f"entry {first} is missing"


def changed(position: int) -> str:
    """The fault that a line has another digest than is written after it."""
    return f"line {position} was changed or replaced: its digest is not the one that was recorded"
