"""Settings keys that were renamed; an old key is accepted for one version, with a note."""

from collections.abc import Mapping
from typing import Any

RENAMED = {"transport": "payload", "marks": "burned-in"}
"""New key by old key; accepted in version 0.2, removed in 0.3."""


def rename_old_keys(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace renamed keys; a value under the new key wins.

    Returns:
        The settings under their current keys, and one note per renamed key.
    """
    renamed = {RENAMED.get(key, key): value for key, value in values.items()}
    renamed |= {key: value for key, value in values.items() if key not in RENAMED}
    notes = [
        f"The setting {old} is now called {RENAMED[old]}; the old name works until version 0.3."
        for old in values
        if old in RENAMED
    ]
    return renamed, notes
