"""Read the parts of a message that are more than a number; every value is checked."""

import json
from collections.abc import Mapping
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.settings.load import build_settings
from fedbus.settings.schema import NOT_SENT, Settings, kebab
from fedbus.text import plain_text
from fedbus.training.federation import FederationRows

MAX_ROWS = 10**9
"""More training rows than any federation has."""


def read_settings(text: str) -> Settings:
    """Read the settings of an instruction.

    Raises:
        ValueError: If they are not JSON, or contain what a site decides itself, such as paths and weights.
        SettingsError: If a setting is not valid.
    """
    values = dict(json.loads(text))
    foreign = sorted(values.keys() & {kebab(name) for name in NOT_SENT})
    if foreign:
        raise ValueError(f"its settings contain {', '.join(foreign)}, which a site does not take from a hub")
    return build_settings(values, "the server")


def read_federation(config: Mapping[str, Any]) -> FederationRows | None:
    """Read the sums over sites; None if an instruction has none.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: If they are missing or out of range.
    """
    counts, balanced = tuple(int(count) for count in config["class-counts"]), int(config["balanced-rows"])
    if not counts and not balanced:
        return None
    if len(counts) != len(CLASSES) or min(counts) < 0 or not 0 < max(counts) <= balanced < MAX_ROWS:
        raise ValueError("the sums over sites are out of range")
    return FederationRows(counts, balanced)


def not_valid(what: str, why: object) -> RunError:
    """Make the error for a message that its receiver refuses."""
    return RunError(f"{what} is not valid ({plain_text(why)}).", "Run the same version of FedBUS everywhere.")
