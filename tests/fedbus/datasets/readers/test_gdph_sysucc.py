"""GDPH&SYSUCC: two layouts, two hospitals."""

import pytest

from fedbus.datasets.readers import gdph_sysucc
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ArchiveError
from tests.archives import make_gdph_sysucc, write_workbook


@pytest.mark.parametrize("layout", ["a", "b"])
@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        ("gdph-sysucc", {"benign": 6, "malignant": 6, "normal": 0}),
        ("gdph", {"benign": 3, "malignant": 2, "normal": 0}),
        ("sysucc", {"benign": 3, "malignant": 4, "normal": 0}),
    ],
)
def test_both_layouts_have_the_same_hospitals(tmp_path, layout, reader, expected):
    manifest = read_dataset(reader, make_gdph_sysucc(tmp_path, layout), "canton")
    assert manifest.counts == expected
    assert {row.patient for row in manifest.rows} == {None}
    assert not any("BIRADS" in note for note in manifest.notes)


def test_the_layouts_contain_the_same_images(tmp_path):
    a = gdph_sysucc.read_sysucc(make_gdph_sysucc(tmp_path / "a", "a"), "x")
    b = gdph_sysucc.read_sysucc(make_gdph_sysucc(tmp_path / "b", "b"), "x")
    assert {r.sha256: r.label for r in a.rows} == {r.sha256: r.label for r in b.rows}


def test_hospitals_are_distinguished_by_the_published_indices(tmp_path):
    folder = make_gdph_sysucc(tmp_path) / "GDPH&SYSUCC"
    # The last of SYSUCC, beside the first of GDPH that the builder makes (443 and 1116).
    for old, new in (("benign(0)", "benign(442)"), ("malignant(0)", "malignant(1115)")):
        (folder / "img" / f"{old}.png").rename(folder / "img" / f"{new}.png")
        table = folder / "label.csv"
        table.write_text(table.read_text().replace(f"{old}.png", f"{new}.png"))

    names = {r.path.rpartition("/")[2] for r in gdph_sysucc.read_sysucc(tmp_path, "x").rows}
    assert {"benign(442).png", "malignant(1115).png"} <= names
    names = {r.path.rpartition("/")[2] for r in gdph_sysucc.read_gdph(tmp_path, "x").rows}
    assert names == {
        "benign(443).png",
        "benign(444).png",
        "benign(445).png",
        "malignant(1116).png",
        "malignant(1117).png",
    }


def test_census_of_the_hospitals_adds_up():
    gdph, sysucc = gdph_sysucc.CENSUS_OF_HOSPITAL["GDPH"], gdph_sysucc.CENSUS_OF_HOSPITAL["SYSUCC"]
    assert (sum(gdph.values()), sum(sysucc.values())) == (846, 1559)
    assert {name: gdph[name] + sysucc[name] for name in gdph} == gdph_sysucc.CENSUS


def test_workbook_and_files_are_compared(tmp_path):
    folder = make_gdph_sysucc(tmp_path, "b") / "GDPH&SYSUCC"
    write_workbook(folder / "BIRADS&FOLD.xlsx", ["benign(0)", "benign(1)", "benign(443)", "malignant(7)"])

    notes = gdph_sysucc.read_sysucc(tmp_path, "x").notes

    assert "1 images in BIRADS&FOLD.xlsx but not on disk: malignant(7)" in notes
    assert any(
        note.startswith("5 images on disk but not in BIRADS&FOLD.xlsx: benign(2), malignant(0)") for note in notes
    )


def test_missing_workbook_is_noted_and_a_broken_one_refused(tmp_path):
    workbook = make_gdph_sysucc(tmp_path, "b") / "GDPH&SYSUCC" / "BIRADS&FOLD.xlsx"
    workbook.write_bytes(b"PK not a zip")
    with pytest.raises(ArchiveError, match="can't be read as a workbook"):
        gdph_sysucc.read(tmp_path, "x")
    workbook.unlink()
    assert (
        "BIRADS&FOLD.xlsx is missing, so the list of images could not be checked"
        in gdph_sysucc.read(tmp_path, "x").notes
    )


def test_a_file_in_the_other_hospitals_folder_is_noted(tmp_path):
    folder = make_gdph_sysucc(tmp_path, "b") / "GDPH&SYSUCC"
    (folder / "SYSUCC" / "benign(0).png").rename(folder / "GDPH" / "benign(0).png")
    manifest = gdph_sysucc.read(tmp_path, "x")
    assert "1 files have an index of the other hospital: GDPH&SYSUCC/GDPH/benign(0).png" in manifest.notes


def test_a_missing_hospital_is_refused(tmp_path):
    folder = make_gdph_sysucc(tmp_path, "b") / "GDPH&SYSUCC"
    (folder / "SYSUCC").rename(tmp_path.parent / f"{tmp_path.name}-away")
    with pytest.raises(ArchiveError, match=r"no folder SYSUCC.*use the reader gdph"):
        gdph_sysucc.read(tmp_path, "x")
    assert gdph_sysucc.read_gdph(tmp_path, "x").counts["benign"] == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "benign(0).png,0",
            "benign(0).png,1",
            r"contradicts the names of the files: row \d+ \(benign\(0\)\.png: 1\)",
        ),
        ("benign(0).png,0", "benign(0).png,2", r"unknown labels: row \d+ \('2'\)"),
        ("benign(0).png,0\n", "", r"1 files without a row: benign\(0\)\.png"),
        ("benign(0).png,0", "benign(9).png,0", r"1 rows without a file: benign\(9\)\.png"),
    ],
)
def test_faults_of_the_table_are_named(tmp_path, old, new, message):
    table = make_gdph_sysucc(tmp_path) / "GDPH&SYSUCC" / "label.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(ArchiveError, match=message):
        gdph_sysucc.read(tmp_path, "x")


@pytest.mark.parametrize("layout", ["a", "b"])
def test_strange_names_are_refused(tmp_path, layout):
    folder = make_gdph_sysucc(tmp_path, layout) / "GDPH&SYSUCC" / ("img" if layout == "a" else "GDPH")
    (folder / "benign(443).png").rename(folder / "benign (443).png")
    with pytest.raises(ArchiveError, match=r"does not have: benign \(443\)\.png"):
        gdph_sysucc.read(tmp_path, "x")
