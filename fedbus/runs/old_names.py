"""Names that run folders of version 0.1 use: still read in version 0.2, never written."""

from collections.abc import Mapping
from typing import Any

OLD_SETTINGS_FILE = "study.json"
"""The settings of a run; now `settings.json`."""

RENAMED_FACTS = {"kept_round": "best_round", "kept_tuning_rounds": "best_tuning_rounds"}
"""New key of `done.json` by old key."""

RENAMED_SITE_FACTS = {"parts": "splits"}
"""New key of the facts about a site by old key: in sites.json, results.json and the hub's registrations."""


def rename_old_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the facts of a finished arm under their present keys."""
    return {RENAMED_FACTS.get(key, key): value for key, value in facts.items()}


def rename_old_site_facts(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the facts about each site under their present keys."""
    return {
        name: {RENAMED_SITE_FACTS.get(key, key): value for key, value in facts.items()} for name, facts in sites.items()
    }
