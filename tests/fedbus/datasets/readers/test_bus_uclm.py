"""BUS-UCLM: labels from INFO.csv, patients from file names."""

import pytest

from fedbus.datasets.readers import bus_uclm
from fedbus.errors import ArchiveError
from tests.archives import make_bus_uclm


def edit(path, old, new):
    text = path.read_text(encoding="utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8-sig")


def test_reads_labels_and_patients(tmp_path):
    manifest = bus_uclm.read(make_bus_uclm(tmp_path), "south")

    assert manifest.counts == {"benign": 6, "malignant": 5, "normal": 4}
    assert [(r.path, r.label, r.patient) for r in manifest.rows[:3]] == [
        ("BUS-UCLM/images/PAAA_000.png", "benign", "PAAA"),
        ("BUS-UCLM/images/PAAA_001.png", "benign", "PAAA"),
        ("BUS-UCLM/images/PAAB_000.png", "benign", "PAAB"),
    ]
    assert len({row.patient for row in manifest.rows}) == 3 + 3 + 2


def test_finds_the_doubled_outer_folder(tmp_path):
    outer = tmp_path / "in" / "in"
    make_bus_uclm(outer)
    for root in (tmp_path / "in", outer, outer / "BUS-UCLM"):
        assert len(bus_uclm.read(root, "x").rows) == 15


def test_chco_is_the_patient_chvi(tmp_path):
    folder = make_bus_uclm(tmp_path) / "BUS-UCLM"
    for old, new in (("PAAA_000", "CHVI_000"), ("PAAA_001", "CHCO_001")):
        edit(folder / "INFO.csv", old, new)
        (folder / "images" / f"{old}.png").rename(folder / "images" / f"{new}.png")

    manifest = bus_uclm.read(tmp_path, "x")

    patients = {row.path[-12:-4]: row.patient for row in manifest.rows}
    assert patients["CHVI_000"] == patients["CHCO_001"] == "CHVI"
    assert manifest.notes[0] == "1 images of patient CHCO are identical to CHVI's: counted as patient CHVI"


def test_rows_without_files_and_files_without_rows_are_all_named(tmp_path):
    folder = make_bus_uclm(tmp_path) / "BUS-UCLM"
    edit(folder / "INFO.csv", "PAAA_000", "ZZZZ_000")
    (folder / "images" / "QAAA_001.png").unlink()
    edit(folder / "INFO.csv", "RAAA_001.png", "RAAA_000.png")

    with pytest.raises(ArchiveError) as caught:
        bus_uclm.read(tmp_path, "x")
    message = str(caught.value)
    assert "2 rows without a file: QAAA_001.png, ZZZZ_000.png" in message
    assert "2 files without a row: PAAA_000.png, RAAA_001.png" in message
    assert "1 named more than once: RAAA_000.png" in message


def test_unknown_labels_are_named_with_their_rows(tmp_path):
    info = make_bus_uclm(tmp_path) / "BUS-UCLM" / "INFO.csv"
    edit(info, "Benign", "Cyst")
    edit(info, "Malignant", "BIRADS 6")
    with pytest.raises(ArchiveError, match=r"row 2 \('cyst'\), row 8 \('birads 6'\)"):
        bus_uclm.read(tmp_path, "x")


def test_names_without_a_patient_are_refused(tmp_path):
    folder = make_bus_uclm(tmp_path) / "BUS-UCLM"
    edit(folder / "INFO.csv", "PAAA_000", "scan_000")
    (folder / "images" / "PAAA_000.png").rename(folder / "images" / "scan_000.png")
    with pytest.raises(ArchiveError, match=r"without a patient: scan_000\.png"):
        bus_uclm.read(tmp_path, "x")


def test_the_real_dataset_matches_its_census(shared_data):
    manifest = bus_uclm.read(shared_data / "BUS-UCLM", "uclm")
    assert manifest.counts == bus_uclm.CENSUS == {"benign": 174, "malignant": 90, "normal": 419}
    assert len({row.patient for row in manifest.rows}) == 37  # 38 ids, two of them one patient
    assert manifest.notes == ("4 images of patient CHCO are identical to CHVI's: counted as patient CHVI",)
