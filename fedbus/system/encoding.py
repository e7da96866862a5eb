"""Output that every terminal can show: in an encoding without a sign, another sign takes its place.

Work of hours must not be lost because a terminal has no tick.
"""

import codecs
import io
import sys

HANDLER = "fedbus-signs"

SIGNS = {
    "✔": "+", "✘": "x", "•": "*", "→": ">", "←": "<", "▲": "^", "▼": "v", "–": "-", "—": "-", "−": "-", "±": "+-",
    "×": "x", "…": "...", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "µ": "u", "≥": ">=", "≤": "<=",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
"""What our own signs become; other characters, as in names of files, become escapes such as \\xfc."""


def show_any_text() -> None:
    """Let standard output and standard error show any text, in whatever encoding; no character raises an error."""
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(SIGNS.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in found), error.end
