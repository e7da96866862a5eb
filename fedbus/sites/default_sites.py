"""The sites of a comparison that names none: phantoms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import SettingsError
from fedbus.settings.load import PHANTOMS_PRESET, build_settings, load_settings
from fedbus.settings.schema import Settings

PHANTOM_SEED = 0


def resolve_sites(settings: Settings) -> Settings:
    """A study that names no site gets the three synthetic hospitals (phantoms), written on first use.

    Raises:
        SettingsError: the settings do not fit three sites.
    """
    if settings.sites:
        return settings
    folders = write_phantoms(settings.cache / "phantoms", settings.phantom_images, PHANTOM_SEED)
    sources = {name: {"reader": "phantoms", "path": str(path)} for name, path in folders.items()}
    return build_settings(settings.as_dict() | {"sites": sources}, "the study on phantoms")


def settings_of_run(run_config: Mapping[str, Any]) -> Settings:
    """The study that `flwr run . --run-config 'study="FILE"'` names; none: the default one on phantoms.

    Raises:
        SettingsError: as `load_settings`; or the path is relative, and Flower starts applications in another folder.
    """
    path = Path(str(run_config.get("settings") or run_config.get("study") or PHANTOMS_PRESET))
    if not path.is_absolute():
        raise SettingsError(f"study = {path} is not an absolute path.", "Flower starts elsewhere; write it in full.")
    return resolve_sites(load_settings(path))
