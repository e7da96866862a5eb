"""Tables as spreadsheets and other programs write them: the same rows, or the true reason."""

import pytest

from fedbus.datasets.readers.tables import parse_table, read_table
from fedbus.errors import ArchiveError

ROWS = [("a.png", "benign"), ("b,1.png", "malignant"), ("ü.png", "normal")]
TEXT = 'file,label\na.png,benign\n"b,1.png",malignant\nü.png,normal\n'
SEMICOLONS = "file;label\na.png;benign\nb,1.png;malignant\nü.png;normal\n"


def rows_of(tmp_path, content, columns=("file", "label")):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [tuple(row[name] for name in columns) for _, row in read_table(path, columns)]


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        SEMICOLONS,
        SEMICOLONS.replace(";", "\t"),
        SEMICOLONS.replace(";", "|"),
        "sep=;\n" + SEMICOLONS,
        "SEP=;\r\n" + SEMICOLONS.replace("\n", "\r\n"),
        '"sep=;"\n' + SEMICOLONS,
        "sep=\t\n" + SEMICOLONS.replace(";", "\t"),
        "sep=~\n" + SEMICOLONS.replace(";", "~"),
        "sep=,,\n" + TEXT,
        TEXT.replace("\n", "\r"),
        TEXT.replace("\n", "\r\n") + "\x1a",
        TEXT.encode("utf-8-sig"),
        ("\ufeff" + TEXT).encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        ("\ufeff" + SEMICOLONS.replace(";", "\t")).encode("utf-16-be"),
        TEXT.encode("utf-32"),
        "\n\n" + TEXT.replace("\n", "\n\n,\n , \n\u00a0,\u200b\n"),
        TEXT.replace("\n", ",,\n"),
        "".join(f",{line}\n" for line in TEXT.splitlines()),
        '"file","label"\n"a.png","benign"\n"b,1.png","malignant"\n"ü.png","normal"\n',
        '"file";"label"\n"a.png";"benign"\n"b,1.png";"malignant"\n"ü.png";"normal"\n',
        'file,label\n="a.png",benign\n"=""b,1.png""",malignant\nü.png,normal\n',
        "\u00a0File ;\u200bLABEL\u00ad\n a.png\u00a0;benign \n\ufeffb,1.png;malignant\t\nü.png;normal",
        "more, and more;label;file\n;benign;a.png\nx;malignant;b,1.png\n;normal;ü.png\n",
    ],
)
def test_the_same_table_however_it_is_saved(tmp_path, content):
    assert rows_of(tmp_path, content) == ROWS


def test_a_tab_in_a_comment_does_not_make_a_table_tab_separated(tmp_path):
    assert rows_of(tmp_path, "file,label,a\tb\tc\td\na.png,benign,\n") == [("a.png", "benign")]


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\n\nfile;label\n\n;\na;b\n\nc;d\n")
    assert [line for line, _ in read_table(path, ("file", "label"))] == [6, 8]


def test_short_rows_are_filled_and_long_ones_refused(tmp_path):
    assert rows_of(tmp_path, "file,label,more\na.png,benign\nb.png,normal,,,\n") == [
        ("a.png", "benign"),
        ("b.png", "normal"),
    ]
    with pytest.raises(ArchiveError, match=r"more cells than the 2 columns of its header: row 3 \(3 cells\)\. Quote"):
        rows_of(tmp_path, "file,label\na.png,benign\nb,1.png,benign\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 and more", "is an Excel workbook or another zip file"),
        (b"\xd0\xcf\x11\xe0 and more", "is an Excel workbook, not a CSV file"),
        (b"<html><table>", "is an HTML or XML file"),
        (b"%PDF-1.7", "is a PDF file"),
        (b"{\\rtf1", "is an RTF document"),
        (b"\x1f\x8b\x08", "is a gzip file"),
        (TEXT.encode("latin-1"), r"is not UTF-8 text \(line 4\)"),
        (TEXT.encode("utf-16-le"), "is not UTF-8 text"),
        (b"file,label\na\0.png,benign\n", "contains NUL"),
        (b'file,label\n"a.png,benign\nb.png,normal\n', r"is not a table \(line 3: unexpected end of data\).*quotation"),
        (b"", "has no column file and no column label"),
        (b"\n \n", "has no column file and no column label"),
        (b"sep=;\n", "has no column file and no column label"),
        (b"file,label,Label\na,benign,benign\nb,benign,normal\n", "'label' and 'Label', which differ in row 3"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path, content, reason):
    with pytest.raises(ArchiveError, match=reason) as caught:
        rows_of(tmp_path, content)
    assert "labels.csv" in caught.value.problem


def test_equal_columns_of_one_name_are_one(tmp_path):
    assert rows_of(tmp_path, "file,label,LABEL\na,benign,benign\n") == [("a", "benign")]


def test_the_header_is_kept_as_written(tmp_path):
    (tmp_path / "t.csv").write_text("File ,, Label\na,,b\n")
    table = parse_table(tmp_path / "t.csv", (), str.isalpha)
    assert table.header == ("File", "", "Label")
    assert table.column(2) == ["b"]
