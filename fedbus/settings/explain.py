"""Error messages in plain words: pydantic's validation errors, and suggestions for misspelt names."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from fedbus.text import plain_text


def explain(error: ValidationError, known: Sequence[str] = ()) -> str:
    """Describe every error of a validation with its key and value.

    Args:
        error: What pydantic raised.
        known: The top-level keys, for a suggestion where one is misspelt.
    """
    return "; ".join(_explain_one(dict(part), known) for part in error.errors())


def _explain_one(error: dict[str, Any], known: Sequence[str]) -> str:
    where = plain_text(".".join(str(part) for part in error["loc"]))
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        top_level = known and len(error["loc"]) == 1
        return f"unknown key {where!r}" + (nearest(where, known) if top_level else "")
    if error["type"] in ("missing", "missing_argument"):
        return f"{where} is missing"
    message = plain_text(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # raised by our own validators, whose messages name the value
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, not {plain_text(repr(error['input']))}" if where else message


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the end of an error message about an unknown name: the closest known name, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
