"""A case of the benchmark that trains in milliseconds."""

from pathlib import Path

import pytest

from fedbus.models.start import start_state
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.benchmarks.case import Case


@pytest.fixture(scope="session")
def tiny_case(two_site_settings: Settings, tiny_folder: Path, tiny_sites: dict[str, Site]) -> Case:
    """`two_site_settings`, ready for its first step: two sites of noise, `south` without normals, float32."""
    settings = two_site_settings.model_copy(update={"precision": "float32"})
    return Case(settings, tiny_folder, tiny_sites, start_state(settings.model, settings.weights, 0))
