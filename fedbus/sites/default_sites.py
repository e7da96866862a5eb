"""The sites of a comparison whose settings name none: phantoms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import SettingsError
from fedbus.settings.load import PHANTOMS_PRESET, build_settings, load_settings
from fedbus.settings.schema import Settings
from fedbus.system.files import make_private_folder

PHANTOM_SEED = 0


def resolve_sites(settings: Settings) -> Settings:
    """Give settings that name no site the three synthetic sites (phantoms), written on first use.

    Raises:
        SettingsError: If the settings do not fit three sites.
    """
    if settings.sites:
        return settings
    make_private_folder(settings.cache)
    folders = write_phantoms(settings.cache / "phantoms", settings.phantom_images, PHANTOM_SEED)
    sources = {name: {"reader": "phantoms", "path": str(path)} for name, path in folders.items()}
    return build_settings(settings.as_dict() | {"sites": sources}, "the settings for phantoms")


def settings_of_run(run_config: Mapping[str, Any]) -> Settings:
    """Load the settings file that `flwr run . --run-config 'settings="FILE"'` names; none: the preset for phantoms.

    The key `study` of version 0.1 is read too.

    Raises:
        SettingsError: As `load_settings`; or the path is relative, and Flower starts applications in another folder.
    """
    path = Path(str(run_config.get("settings") or run_config.get("study") or PHANTOMS_PRESET))
    if not path.is_absolute():
        raise SettingsError(
            f"settings = {path} is not an absolute path.", "Write it in full: Flower starts in another folder."
        )
    return resolve_sites(load_settings(path))
