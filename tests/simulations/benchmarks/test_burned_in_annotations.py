"""The detector of burned-in annotations, on a dataset whose table has a column for them."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedbus.datasets.readers import bus_uclm
from fedbus.errors import ArchiveError
from simulations.benchmarks import burned_in_annotations
from tests.archives import make_bus_uclm
from tests.fedbus.images.test_burned_in import tissue, with_caliper


@pytest.fixture
def dataset(tmp_path):
    """A BUS-UCLM of blurred noise; every second benign or malignant image has a caliper."""
    make_bus_uclm(tmp_path, {"benign": 4, "malignant": 6, "normal": 3})
    for path in sorted((tmp_path / "BUS-UCLM" / "images").glob("*.png")):
        plain = tissue(seed=1)
        annotated = path.stem.endswith("_001") and path.name[0] in "PQ"
        Image.fromarray(np.stack([with_caliper(plain, 80, 90) if annotated else plain] * 3, axis=2)).save(path)
    return tmp_path


def run(*words):
    import typer

    application = typer.Typer()
    application.command()(burned_in_annotations.main)
    return CliRunner().invoke(application, list(words))


def test_tables_count_by_class_and_by_the_published_column(dataset):
    done = run(f"bus-uclm={dataset}")
    lines = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    assert ["benign", "4", "2", "0.50"] in lines
    assert ["malignant", "6", "3", "0.50"] in lines
    assert ["normal", "3", "0", "0.00"] in lines
    # The column says No for the first image of each class; 5 of the others have a caliper.
    assert ["yes", "10", "5", "0.50"] in lines
    assert ["no", "3", "0", "0.00"] in lines
    assert done.exit_code == 0


def test_the_column_must_be_yes_or_no(dataset):
    table = dataset / "BUS-UCLM" / "INFO.csv"
    table.write_text(table.read_text("utf-8-sig").replace(";Yes;", ";perhaps;", 1), encoding="utf-8")
    with pytest.raises(ArchiveError, match="'perhaps'"):
        bus_uclm.published_annotations(dataset)
    done = run(f"bus-uclm={dataset}")
    assert done.exit_code == 1
    assert "yes, no" in " ".join(done.stdout.split())
