"""Turn pydantic's complaints into words."""

from typing import Any

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """Turn pydantic's complaints into words that name the key and the value."""
    return "; ".join(_explain_one(dict(part)) for part in error.errors())


def _explain_one(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"no key is called {where!r}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{where} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # our own words, which hold the value
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, not {error['input']!r}" if where else message
