"""Names that run folders of version 0.1 use: still read in version 0.2, never written."""

from collections.abc import Mapping
from typing import Any

OLD_SETTINGS_FILE = "study.json"
"""The settings of a run; now `settings.json`."""

RENAMED_FACTS = {"kept_round": "best_round", "kept_tuning_rounds": "best_tuning_rounds"}
"""New key of `done.json` by old key."""


def rename_old_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the facts of a finished arm under their present keys."""
    return {RENAMED_FACTS.get(key, key): value for key, value in facts.items()}
