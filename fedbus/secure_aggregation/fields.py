"""Messages of the protocol as bytes: named byte strings in JSON, checked when they are read."""

import json
from collections.abc import Mapping
from typing import Any

from fedbus.errors import RunError
from fedbus.text import plain_text

LARGEST = 1 << 24
"""Bytes of the largest message that is read; the largest real one is a site's state at 1000 sites."""


def write_fields(fields: Mapping[str, bytes]) -> bytes:
    """Return named byte strings as canonical JSON."""
    return canonical_json({key: value.hex() for key, value in fields.items()})


def read_fields(data: bytes, sizes: Mapping[str, int], what: str) -> dict[str, bytes]:
    """Undo `write_fields`.

    Args:
        data: The message.
        sizes: The bytes of each field; 0 for any number.
        what: What the message is, for errors.

    Raises:
        RunError: If the message does not consist of exactly these fields with these sizes.
    """
    values = read_json_object(data, what)
    if values.keys() != sizes.keys():
        raise damaged(what, "other fields than expected")
    found = {key: _from_hex(values[key], what) for key in sizes}
    wrong = [key for key, size in sizes.items() if size and len(found[key]) != size]
    if wrong:
        raise damaged(what, f"{wrong[0]} has {len(found[wrong[0]])} bytes, not {sizes[wrong[0]]}")
    return found


def canonical_json(values: Mapping[str, Any]) -> bytes:
    """Return the only JSON of a mapping that hub and sites compute digests from."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def read_json_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: If it is none.
    """
    if not isinstance(data, bytes) or len(data) > LARGEST:
        raise damaged(what, f"no bytes, or more than {LARGEST}")
    try:
        values = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise damaged(what, error) from error
    if not isinstance(values, dict):
        raise damaged(what, "no object")
    return values


def damaged(what: str, why: object) -> RunError:
    """Make the error for a message that can't be read."""
    return RunError(f"{what} can't be read ({plain_text(str(why))}).", "Run the same version of FedBUS everywhere.")


def _from_hex(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise damaged(what, "a field is no text")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise damaged(what, error) from error
