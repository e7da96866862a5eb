"""Columns of labels.csv under the names that people give them."""

import pytest

from fedbus.datasets.readers.columns import find_columns
from fedbus.datasets.readers.tables import Table
from fedbus.errors import ArchiveError

PATIENT = [
    "patient", "Patient", "patient_id", "PatientID", "patient id", "Patient-ID", "PATIENT.NO", "patient#", "Patients",
    "anon patient id", "Patient (pseudonym)", "patient_code", "PatientIdentifier", "patient_uid", "pat_id", "Pat.-Nr.",
    "PID", "pt_id", "pseudonym", "subject", "Subject_ID", "subjectNo", "participant", "person id", "MRN", "mrn_hash",
    "Patientennummer", "Patienten-ID", "Patientin", "Probandin", "Patientenkennung", "patient_e", "N° patient",
    "numéro du patient", "IPP", "sujet", "paciente", "ID_Paciente", "Número de paciente", "NHC", "paziente", "pacjent",
    "Patient Name", "nom du patient",
]  # fmt: skip
CASE = [
    "case",
    "Case",
    "case_id",
    "CaseNo",
    "Fall",
    "Fallnummer",
    "cas",
    "caso",
    "study",
    "exam_id",
    "Accession Number",
]
OTHER = [
    "age", "Patient Age", "PatientSex", "patient_birth_date", "BI-RADS", "site", "hospital", "id", "patients per day",
    "Patient Position", "casein", "patience", "comment",
]  # fmt: skip


def table(*header, rows=(("a.png", "benign", "1"), ("b.png", "normal", "2"), ("c.png", "normal", "2"))):
    path = type("Path", (), {"__str__": lambda self: "labels.csv"})()
    return Table(path, header, tuple((i + 2, cells) for i, cells in enumerate(rows)))


@pytest.mark.parametrize("name", PATIENT)
def test_a_patient_s_column_is_read_under_its_usual_names(name):
    found = find_columns(table("file", "label", name))
    assert found.patient == 2
    assert found.notes == ()


@pytest.mark.parametrize("name", CASE)
def test_cases_and_examinations_stand_for_the_patient_with_a_note(name):
    found = find_columns(table("file", "label", name))
    assert found.patient == 2
    (note,) = found.notes
    assert f"the column {name} stands for it" in note


@pytest.mark.parametrize("name", OTHER)
def test_every_other_column_is_named(name):
    found = find_columns(table("file", "label", name))
    assert found.patient is None
    (note,) = found.notes
    assert note == (
        f"labels.csv has columns that are not read: {name}; if one of them identifies the patient, name it patient"
    )


def test_blank_columns_are_nothing_and_those_without_a_name_are_named():
    rows = (("", "a.png", "benign", "", "x", "1"), ("", "b.png", "normal", "", "", "2"))
    found = find_columns(table("", "File Name", "Diagnosis", "", "", "Patient", rows=rows))
    assert (found.file, found.label, found.patient) == (1, 2, 5)
    assert found.notes == ("labels.csv has columns that are not read: column 5, which has no name",)


def test_the_patient_goes_before_the_case_which_is_named():
    found = find_columns(table("file", "label", "case", "MRN", "patient_id", rows=(("a", "benign", "1", "2", "3"),)))
    assert found.patient == 4
    assert found.notes == ("labels.csv has columns that are not read: case, MRN",)


def test_a_case_that_is_the_same_in_all_rows_identifies_nobody():
    found = find_columns(table("file", "label", "Case", rows=(("a", "benign", "1"), ("b", "normal", "1"))))
    assert found.patient is None
    assert "not read: Case" in found.notes[0]


def test_columns_that_identify_the_patient_differently_are_refused():
    rows = (("a", "benign", "1", "x"), ("b", "normal", "2", "x"))
    with pytest.raises(ArchiveError, match=r"could identify the patient, and they differ: patient, Patient ID"):
        find_columns(table("file", "label", "patient", "Patient ID", rows=rows))
    rows = (
        ("a", "benign", "01", "x"),
        ("b", "normal", "2", "y"),
        ("c", "normal", "1.0", "x"),
        ("d", "normal", "", "NA"),
    )
    assert find_columns(table("file", "label", "patient", "Patient ID", rows=rows)).patient == 2


def test_the_documented_name_goes_before_others():
    found = find_columns(table("image", "file", "class", "label", rows=(("x", "a", "1", "benign"),)))
    assert (found.file, found.label) == (1, 3)
    assert found.notes[0].startswith("labels.csv has columns that are not read: image, class; ")
