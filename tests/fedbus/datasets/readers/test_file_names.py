"""Names of files in a table, and the files on disk that they mean."""

import unicodedata

import pytest

from fedbus.datasets.readers.file_names import match_names


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (unicodedata.normalize("NFC", "größe/bröst.png"), unicodedata.normalize("NFD", "größe/bröst.png")),
        (unicodedata.normalize("NFD", "größe/bröst.png"), unicodedata.normalize("NFC", "größe/bröst.png")),
        ("Scans/A.PNG", "scans/a.png"),
        ("scans/a.png", "Scans/A.PNG"),
        ("scans/a\u00a01.png", "scans/a 1.png"),
        ("scans/a 1.png", "scans/a\u202f1.png"),
        ("scans/a\u200b.png", "scans/a.png"),
        ("scans/a\u00ad1.png", "scans/a1.png"),
        ("scans/a–1.png", "scans/a-1.png"),
        ("scans /a.png", "scans/a.png"),
        ("scans/a.png", "scans/a.png"),
    ],
)
def test_a_name_becomes_that_of_the_file_it_means(written, stored):
    assert match_names([written], [stored, "other.png"]) == [stored]


def test_names_that_could_mean_two_files_or_none_are_unchanged():
    assert match_names(["A.png", "a.PNG", "b.png"], ["A.png", "a.png"]) == ["A.png", "a.PNG", "b.png"]
