"""A case of the benchmark that trains in milliseconds."""

from pathlib import Path

import pytest

from fedbus.models.start import start_state
from fedbus.settings.schema import Study
from fedbus.sites.site import Site
from simulations.benchmarks.case import Case


@pytest.fixture(scope="session")
def tiny_case(tiny_study: Study, tiny_folder: Path, tiny_sites: dict[str, Site]) -> Case:
    """`tiny_study`, ready for its first step: two sites of noise, `south` without normals, float32."""
    study = tiny_study.model_copy(update={"precision": "float32"})
    return Case(study, tiny_folder, tiny_sites, start_state(study.model, study.weights, 0))
