"""Pieces of Markdown pages in which no value can become markup."""

import html
import re
from collections.abc import Sequence

from fedbus.cards.run import FinishedRun
from fedbus.reports import wording
from fedbus.text import NOT_A_DEVICE, plain_text

_MARKUP = re.compile(r"([\\`*_\[\]#|])")
"""Characters that start emphasis, code, links, headings or cells."""


def first_lines(run: FinishedRun) -> list[str]:
    """Write what comes before everything else: that the images are phantoms, and that this is no medical device."""
    phantoms = [f"**{wording.PHANTOMS}**", ""] if run.phantoms else []
    return [*phantoms, f"**{NOT_A_DEVICE}**", ""]


def prose(text: str) -> str:
    """Write text on one line, without markup."""
    line = plain_text(text, most=20_000)
    return _MARKUP.sub(r"\\\1", html.escape(line, quote=False))


def code(text: str) -> str:
    """Write text as code."""
    return f"`{plain_text(text).replace('`', '')}`"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> list[str]:
    """Write a table in GitHub Markdown; the first `text` columns are text, the others figures, aligned right."""
    rules = ["---" if column < text else "---:" for column in range(len(headings))]
    return [
        _line([wording.markdown_cell(heading) for heading in headings]),
        _line(rules),
        *(_line([wording.markdown_cell(cell) for cell in row]) for row in rows),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
