"""A site's own images, listed in labels.csv."""

import numpy as np
import pytest

from fedbus.datasets.readers import labels_csv
from fedbus.errors import ArchiveError
from tests.archives import make_image, make_labels_csv, write_table


def replace(root, old, new):
    table = root / "labels.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("patients", [True, False])
def test_reads_labels_and_patients(tmp_path, delimiter, patients):
    root = make_labels_csv(tmp_path, delimiter=delimiter, patients=patients)
    manifest = labels_csv.read(root, "mine")
    assert manifest.counts == {"benign": 6, "malignant": 5, "normal": 4}
    assert manifest.rows[2].path == "scans/benign-2.png"
    assert manifest.rows[2].patient == ("benign1" if patients else None)
    assert manifest.notes == ()


def test_tolerates_what_spreadsheets_write(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "a b").mkdir()
    for name in ("a b/1.png", "a b/2.png"):
        make_image(generator).save(tmp_path / name)
    header = (" Label", "comment", "FILE", "")
    rows = [("Benign ", "left; upper", "a b\\1.png", ""), ("MALIGNANT", "", "./a b/2.png", "")]
    write_table(tmp_path / "labels.csv", header, rows, delimiter=",", encoding="utf-8-sig")

    manifest = labels_csv.read(tmp_path, "x")

    assert [(r.path, r.label) for r in manifest.rows] == [("a b/1.png", "benign"), ("a b/2.png", "malignant")]


def test_unlisted_masks_are_left_out_and_counted(tmp_path):
    make_labels_csv(tmp_path)
    (tmp_path / "masks").mkdir()
    make_image(np.random.default_rng(1)).save(tmp_path / "masks" / "benign-0.png")
    manifest = labels_csv.read(tmp_path, "x")
    assert len(manifest.rows) == 15
    assert manifest.notes == ("1 files named like masks are left out",)


def test_missing_patients_are_counted(tmp_path):
    replace(make_labels_csv(tmp_path), "benign-0.png,benign,benign0", "benign-0.png,benign,")
    manifest = labels_csv.read(tmp_path, "x")
    assert manifest.rows[0].patient is None
    assert manifest.notes == ("1 rows name no patient; each counts as a separate patient",)


def test_rows_without_files_files_without_rows_and_duplicates_are_named(tmp_path):
    make_labels_csv(tmp_path)
    replace(tmp_path, "scans/benign-0.png", "scans/lost.png")
    replace(tmp_path, "scans/normal-1.png", "scans/normal-0.png")
    with pytest.raises(ArchiveError) as caught:
        labels_csv.read(tmp_path, "x")
    message = str(caught.value)
    assert "1 rows without a file: scans/lost.png" in message
    assert "2 files without a row: scans/benign-0.png, scans/normal-1.png" in message
    assert "1 named more than once: scans/normal-0.png" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("benign-1.png,benign", "benign-1.png,begnin", r"unknown labels: row 3 \('begnin'\)"),
        ("benign-1.png,benign", "benign-1.png,", r"row 3 \(''\)"),
        ("scans/benign-0.png", "../scans/benign-0.png", r"outside its folder: row 2 \(\.\./scans"),
        ("scans/benign-0.png", "/etc/benign-0.png", r"outside its folder: row 2 \(/etc"),
        ("scans/benign-0.png", "C:\\scans\\benign-0.png", r"outside its folder: row 2 \(C:/scans"),
        ("scans/benign-0.png", "scans/benign-0_mask.png", r"lists 1 masks as images: row 2 "),
        ("scans/benign-0.png", "scans/benign-0.txt", r"not images: row 2 \(scans/benign-0\.txt\)"),
        ("file,label", "name,label", "no column file; its header is 'name,label,patient'"),
        ("file,label", "name,kind", "no column file and no column label"),
    ],
)
def test_faults_are_named_with_their_rows(tmp_path, old, new, message):
    replace(make_labels_csv(tmp_path), old, new)
    with pytest.raises(ArchiveError, match=message):
        labels_csv.read(tmp_path, "x")


def test_all_unknown_labels_are_collected(tmp_path):
    replace(make_labels_csv(tmp_path), "benign-0.png,benign", "benign-0.png,cyst")
    replace(tmp_path, "normal-3.png,normal", "normal-3.png,healthy")
    with pytest.raises(ArchiveError, match=r"row 2 \('cyst'\), row 16 \('healthy'\)"):
        labels_csv.read(tmp_path, "x")


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    table = make_labels_csv(tmp_path) / "labels.csv"
    table.write_bytes(table.read_bytes() + "scans/größe.png,benign,\n".encode("latin-1"))
    with pytest.raises(ArchiveError, match="is not UTF-8 text"):
        labels_csv.read(tmp_path, "x")


def test_an_empty_table_is_refused(tmp_path):
    (make_labels_csv(tmp_path) / "labels.csv").write_text("")
    with pytest.raises(ArchiveError, match="no column file"):
        labels_csv.read(tmp_path, "x")


def test_a_missing_table_is_refused(tmp_path):
    (make_labels_csv(tmp_path) / "labels.csv").unlink()
    with pytest.raises(ArchiveError, match=r"labels\.csv does not exist"):
        labels_csv.read(tmp_path, "x")


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(ArchiveError, match="at least two classes"):
        labels_csv.read(make_labels_csv(tmp_path, {"benign": 3}), "x")


def rename_column(root, name):
    replace(root, "file,label,patient", f"file,label,{name}")


@pytest.mark.parametrize("name", ["patient_id", "PatientID", "patient id", "case", "Case", "subject"])
def test_patients_are_read_from_columns_with_other_names(tmp_path, name):
    expected = [row.patient for row in labels_csv.read(make_labels_csv(tmp_path), "x").rows]
    rename_column(tmp_path, name)
    assert [row.patient for row in labels_csv.read(tmp_path, "x").rows] == expected


def test_columns_that_are_not_read_are_named(tmp_path):
    rename_column(make_labels_csv(tmp_path), "whose")
    manifest = labels_csv.read(tmp_path, "x")
    assert {row.patient for row in manifest.rows} == {None}
    assert "not read: whose; if one of them identifies the patient, name it patient" in manifest.notes[0]


def test_ids_that_differ_only_in_form_are_one_patient(tmp_path):
    replace(make_labels_csv(tmp_path), "benign-1.png,benign,benign0", "benign-1.png,benign,BENIGN 00.0")
    replace(tmp_path, "benign-0.png,benign,benign0", "benign-0.png,benign,Benign\u200b0")
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("BENIGN 00.0", "BENIGN 00"))
    manifest = labels_csv.read(tmp_path, "x")
    assert manifest.rows[0].patient == manifest.rows[1].patient == "BENIGN 00"
    assert (
        "2 patient ids differ only in form (BENIGN 00 and 'Benign\\u200b0'), so they count as 1 patients"
        in (manifest.notes[0])
    )


@pytest.mark.parametrize("marker", ["NA", "nan", "null", "-", "n/a", "#N/A", "unknown", "\u200b", "-99"])
def test_markers_of_the_unknown_are_no_patient(tmp_path, marker):
    root = make_labels_csv(tmp_path)
    for number in range(4):
        replace(root, f"benign-{number}.png,benign,benign{number // 2}", f"benign-{number}.png,benign,{marker}")
    manifest = labels_csv.read(root, "x")
    assert [row.patient for row in manifest.rows[:5]] == [None] * 4 + ["benign2"]
    (note,) = manifest.notes
    shown = f" ({marker!r} 4)" if marker.isprintable() else ""
    assert note == f"4 rows name no patient{shown}; each counts as a separate patient"


def test_a_column_full_of_markers_is_noted(tmp_path):
    table = make_labels_csv(tmp_path, {"benign": 2, "normal": 2}, patients=False) / "labels.csv"
    table.write_text("file,label,patient\n" + "".join(f"{line},NA\n" for line in table.read_text().splitlines()[1:]))
    assert labels_csv.read(tmp_path, "x").notes == (
        "4 rows name no patient ('NA' 4); each counts as a separate patient",
    )


def test_an_image_of_unknown_class_is_refused_with_what_to_do(tmp_path):
    replace(make_labels_csv(tmp_path), "benign-1.png,benign", "benign-1.png,n/a")
    with pytest.raises(ArchiveError, match=r"row 3 \('n/a'\)\..* unknown class can't be used: remove its row"):
        labels_csv.read(tmp_path, "x")


@pytest.mark.parametrize("address", ["https://pacs/benign-0.png", "file:///scans/benign-0.png", "file:/benign-0.png"])
def test_addresses_are_refused_as_no_paths(tmp_path, address):
    replace(make_labels_csv(tmp_path), "scans/benign-0.png", address)
    with pytest.raises(ArchiveError, match=r"files outside its folder: row 2 .*Give paths relative"):
        labels_csv.read(tmp_path, "x")


def test_names_in_another_unicode_form_and_case_are_found(tmp_path):
    root = make_labels_csv(tmp_path)
    (root / "scans" / "benign-0.png").rename(root / "scans" / "Bru\u0308st 0.png")
    replace(root, "scans/benign-0.png", "Scans\\Br\u00fcst\u00a00.PNG")
    rows = {row.path: row for row in labels_csv.read(root, "x").rows}
    assert rows["scans/Bru\u0308st 0.png"].patient == "benign0"
    assert len(rows) == 15


def test_the_table_s_own_name_may_have_capitals(tmp_path):
    make_labels_csv(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "Labels.CSV")
    assert labels_csv.matches(tmp_path)
    assert len(labels_csv.read(tmp_path, "x").rows) == 15


@pytest.mark.parametrize("name", ["labels.xlsx", "Labels.tsv", "labels.csv.txt", "list.csv"])
def test_a_table_of_another_format_or_name_is_pointed_out(tmp_path, name):
    (make_labels_csv(tmp_path) / "labels.csv").rename(tmp_path / name)
    with pytest.raises(ArchiveError, match=rf"labels\.csv does not exist, but {name}\. Save the table of images as"):
        labels_csv.read(tmp_path, "x")
