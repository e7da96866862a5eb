"""What the operator of a site is shown of a study before it starts."""

import json

from fedbus.settings.load import build_settings
from fedbus.settings.schema import NOT_SENT, Settings, kebab
from fedbus.text import plain_text
from fedbus.transport.messages import EVALUATION, Instruction

LONGEST = 200
"""Characters of a value that are shown; no sensible one has more."""


def describe_study(instruction: Instruction) -> str:
    """Describe a study in one line: its title, and every setting that differs from FedBUS's defaults."""
    changed = changed_settings(instruction.settings)
    differing = ", ".join(f"{key} = {value} (default {default})" for key, (value, default) in changed.items())
    what = "evaluation of the model" if instruction.task == EVALUATION else "study"
    return f"{what} {instruction.title}, seed {instruction.seed}: {differing or 'all settings have their defaults'}"


def changed_settings(settings: Settings) -> dict[str, tuple[str, str]]:
    """Return the settings that a hub sends and that differ from the defaults, as (value, default) by key.

    Values are JSON in ASCII, so that no character in them can act on a terminal.
    """
    found, defaults = settings.as_dict(), build_settings({}, "the defaults").as_dict()
    sent = (kebab(name) for name in Settings.model_fields if name not in NOT_SENT)
    return {key: (_shown(found[key]), _shown(defaults[key])) for key in sent if found[key] != defaults[key]}


def _shown(value: object) -> str:
    return plain_text(json.dumps(value), LONGEST)
