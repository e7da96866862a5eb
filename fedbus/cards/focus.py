"""What `fedbus explain RUN --masks` found: how much of the models' maps is inside the lesions."""

from pathlib import Path
from typing import Any

from fedbus.cards.elsewhere import well_formed
from fedbus.reports import wording
from fedbus.system.files import read_json

FILE = "explained/focus.json"
"""Its file in the run folder."""


def focus_sentences(run: Path) -> list[str]:
    """Write the share of the maps' energy inside the lesions for every arm; empty if it was not measured.

    Args:
        run: The run folder.

    Raises:
        RunError: If the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        return []
    content = read_json(path)
    with well_formed(path, "Delete it, or run fedbus explain again."):
        first = (
            f"Grad-CAM of {content['explained']}, on test images with a lesion mask. Share of the map's energy inside "
            "the lesion, against the lesion's share of the area and the maps of networks with random weights:"
        )
        return [first, *(_arm(arm, places["all"]) for arm, places in content["arms"].items())]


def _arm(arm: str, found: dict[str, Any]) -> str:
    shares = [
        f"{name} {wording.with_interval(found[key])}"
        for name, key in (("energy", "trained"), ("area", "area"), ("random weights", "randomised"))
    ]
    return f"{wording.arm_label(arm)}, {found['images']} images: {', '.join(shares)}."
