"""BUS-BRA: labels and cases from bus_data.csv."""

import pytest

from fedbus.datasets.readers import bus_bra
from fedbus.errors import ArchiveError
from tests.archives import make_bus_bra


def test_two_views_of_a_case_are_one_patient(tmp_path):
    manifest = bus_bra.read(make_bus_bra(tmp_path), "rio")

    assert manifest.counts == {"benign": 6, "malignant": 5, "normal": 0}
    assert [(r.path, r.label, r.patient) for r in manifest.rows[:3]] == [
        ("BUSBRA/Images/bus_0001-l.png", "benign", "1"),
        ("BUSBRA/Images/bus_0001-r.png", "benign", "1"),
        ("BUSBRA/Images/bus_0002-l.png", "benign", "2"),
    ]
    assert len({row.patient for row in manifest.rows}) == 6


def test_rows_and_files_must_match(tmp_path):
    images = make_bus_bra(tmp_path) / "BUSBRA" / "Images"
    (images / "bus_0001-l.png").rename(images / "bus_0099-l.png")
    with pytest.raises(ArchiveError, match=r"without a file: bus_0001-l\.png; 1 files without a row: bus_0099"):
        bus_bra.read(tmp_path, "x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('cyst, simple",benign', 'cyst, simple",normal', r"row 2 \('normal'\)"),
        ("bus_0001-l,1,", "bus_0001-l,,", "no case in row 2"),
        ("Pathology", "Diagnosis", "no column pathology"),
    ],
)
def test_faults_in_the_table_are_named(tmp_path, old, new, message):
    table = make_bus_bra(tmp_path) / "BUSBRA" / "bus_data.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(ArchiveError, match=message):
        bus_bra.read(tmp_path, "x")


def test_the_real_dataset_matches_its_census(shared_data):
    manifest = bus_bra.read(shared_data / "BUSBRA", "bra")
    assert manifest.counts == bus_bra.CENSUS == {"benign": 1268, "malignant": 607, "normal": 0}
    assert len({row.patient for row in manifest.rows}) == 1064
    assert manifest.notes == ()
