"""Names in the messages of secure aggregation: what the hub sends with each of the four steps, and what comes back.

    step      action                      from the hub          from the site
    keys      query.keys                  TERMS                 KEYS
    shares    query.shares                SESSION NAMES KEYS    NAMES SEALED
    masked    train or evaluate.masked    SESSION NAMES SEALED  MASKED_VALUES MASKED_NUMBERS
    unmask    query.unmask                SESSION NAMES         SHARES

Every message also contains the instruction, by which a site finds what it has prepared; those of the third step contain
the model.
"""

from collections.abc import Mapping
from typing import Any

from fedbus.errors import RunError

SECURE = "secure"
"""Name of the record."""

KEYS_ACTION, SHARES_ACTION, MASKED_ACTION, UNMASK_ACTION = "keys", "shares", "masked", "unmask"
"""Names of the actions, after Flower's kind of message."""

TERMS, SESSION, NAMES = "terms", "session", "names"

KEYS, SEALED, MASKED_VALUES, MASKED_NUMBERS, SHARES = "keys", "sealed", "values", "numbers", "shares"


def read_bytes(record: Mapping[str, Any], key: str) -> bytes:
    """Read a byte string of a message.

    Raises:
        RunError: If there is none.
    """
    if not isinstance(record.get(key), bytes):
        raise _malformed(key)
    return bytes(record[key])


def read_text(record: Mapping[str, Any], key: str) -> str:
    """Read a text of a message.

    Raises:
        RunError: If there is none.
    """
    if not isinstance(record.get(key), str):
        raise _malformed(key)
    return str(record[key])


def read_names(record: Mapping[str, Any]) -> list[str]:
    """Read the names of sites in a message.

    Raises:
        RunError: If there are none, or one appears twice.
    """
    names = record.get(NAMES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise _malformed(NAMES)
    return list(names)


def read_by_name(record: Mapping[str, Any], key: str) -> dict[str, bytes]:
    """Read one byte string for each of the names in a message.

    Raises:
        RunError: If there is not one for each.
    """
    names, parts = read_names(record), record.get(key)
    if not isinstance(parts, list) or len(parts) != len(names) or not all(isinstance(part, bytes) for part in parts):
        raise _malformed(key)
    return dict(zip(names, parts, strict=True))


def write_by_name(key: str, parts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the entries of a message with one byte string for each name."""
    return {NAMES: list(parts), key: list(parts.values())}


def _malformed(key: str) -> RunError:
    return RunError(
        f"A message of secure aggregation has no valid {key!r}.", "Run the same version of FedBUS everywhere."
    )
