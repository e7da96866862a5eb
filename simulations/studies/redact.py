"""Keep what is private out of `study.json`, which is published: folders, file names, addresses, patients."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SITE_KEYS = ("reader", "images", "patients", "groups", "splits", "balanced", "digest", "split_digest")
"""Facts about a site that are counts or digests; notes and dropped images name files."""

SETTING_KEYS = frozenset({"cache", "sites", "ray-address", "track"})
"""Settings that name folders or addresses."""

_FOLDERS = re.compile(r"(?<![\w.:/])~?(?:/[^/\s'\"]+)+/(?=[^/\s])")


def site_counts(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Reduce the facts about each site to counts and digests; of its notes only their number is kept, as `noted`."""
    return {
        name: {key: facts[key] for key in SITE_KEYS if key in facts} | {"noted": len(facts.get("notes", []))}
        for name, facts in sites.items()
    }


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that name folders or addresses, and reduce the weights to the name of their file."""
    shown = {key: value for key, value in settings.items() if key not in SETTING_KEYS}
    return shown | {key: Path(shown[key]).name for key in ("weights",) if key in shown}


def without_folders(text: str) -> str:
    """Reduce the absolute paths in an error message to their last part."""
    return _FOLDERS.sub("", text)
