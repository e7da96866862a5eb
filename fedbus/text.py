"""Text that another party wrote, made safe to print and to store.

Error reasons, names and files come from sites, hubs and strangers. Their control characters could erase or forge lines
in a terminal or a log, and nothing limits their length.
"""

import re

ESCAPE_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
"""What sets colours and moves the cursor: ECMA-48, section 5.4."""

MOST_CHARACTERS = 500
"""Length of a text from another party; no reason, name or setting is longer."""

MOST_OF_A_LINE = 20_000
"""Length of a printed line, which may list many sites or files, each cut to its own length."""

CUT = "..."

NOT_A_DEVICE = "Research software, not a medical device: no output is a diagnosis."
"""Printed with every output that could be read as a statement about a patient."""


def plain_text(text: object, most: int = MOST_CHARACTERS) -> str:
    """Return text as one line of printable characters.

    Line breaks and tabs become spaces. Escape sequences and control characters are removed, as are characters that
    change the direction of text or have no shape. Bytes of a file's name that are not UTF-8, which Python represents by
    halves of surrogate pairs, become question marks.

    Args:
        text: Anything with a text form, such as an exception.
        most: Number of characters to keep, at least 3; longer text ends with three dots.
    """
    found = str(text)
    if found.isprintable() and len(found) <= most:
        return found
    cut = len(found) > most  # before the loop, because the text can have any size
    line = "".join(_printed(character) for character in ESCAPE_SEQUENCE.sub("", found[:most]))
    return f"{line[: most - len(CUT)]}{CUT}" if cut else line


def _printed(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "?" if "\ud800" <= character <= "\udfff" else ""


def is_plain(text: str, most: int = MOST_CHARACTERS) -> bool:
    """Return whether `plain_text` would leave text unchanged."""
    return plain_text(text, most) == text
