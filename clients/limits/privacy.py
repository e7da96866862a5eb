"""Whether a study protects what leaves a site as the site's operator demands."""

from typing import Literal

from fedbus.settings.privacy_rules import SECURE
from fedbus.settings.schema import Settings

DIFFERENTIAL = "differential-privacy"

RequiredPrivacy = Literal["none", "secure-aggregation", "differential-privacy", "both"]


def privacy_faults(settings: Settings, required: RequiredPrivacy, *, training: bool) -> list[str]:
    """Return in words what the operator demands and the study does not give.

    Args:
        settings: Settings of the study.
        required: The site's limit `require-privacy`.
        training: Whether the site shall train. An evaluation of a given model is never summed: its counts are those of
            one site, whatever the settings that the model was trained with. It sends no weights.
    """
    faults, demand = [], f"this site's require-privacy = {required}"
    if required in (SECURE, "both") and not training:
        faults.append(f"an evaluation of a given model sends counts of this site alone, against {demand}")
    elif required in (SECURE, "both") and settings.privacy != SECURE:
        faults.append(f"privacy = {settings.privacy}, against {demand}")
    if required in (DIFFERENTIAL, "both") and training and not settings.dp_epsilon:
        faults.append(f"dp-epsilon = 0 (no differential privacy), against {demand}")
    return faults
