"""The sites of a comparison that names none: phantoms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import SettingsError
from fedbus.settings.load import DEFAULT_STUDY, build_study, load_study
from fedbus.settings.schema import Study

PHANTOM_SEED = 0


def resolve_sites(study: Study) -> Study:
    """A study that names no site gets the three synthetic hospitals (phantoms), written on first use.

    Raises:
        SettingsError: the settings do not fit three sites.
    """
    if study.sites:
        return study
    folders = write_phantoms(study.cache / "phantoms", study.phantom_images, PHANTOM_SEED)
    sources = {name: {"reader": "phantoms", "path": str(path)} for name, path in folders.items()}
    return build_study(study.as_dict() | {"sites": sources}, "the study on phantoms")


def study_of_run(run_config: Mapping[str, Any]) -> Study:
    """The study that `flwr run . --run-config 'study="FILE"'` names; none: the default one on phantoms.

    Raises:
        SettingsError: as `load_study`; or the path is relative, and Flower starts applications in another folder.
    """
    path = Path(str(run_config.get("study") or DEFAULT_STUDY))
    if not path.is_absolute():
        raise SettingsError(f"study = {path} is not an absolute path.", "Flower starts elsewhere; write it in full.")
    return resolve_sites(load_study(path))
