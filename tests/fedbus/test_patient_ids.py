"""Patient ids: which mean unknown, and which differ only in form."""

import random

import pytest

from fedbus.patient_ids import canonical, is_unknown, spellings

SAME = [
    ("0007", "7"), ("7", "7.0"), ("7", "7,0"), ("7.00", "0007"), ("P1", "p1"), ("P01", "P1"), ("P 1", "P1"),
    ("P-1", "P_1"), ("P-001", "P1"), ("P.1", "P1"), ("2024-01", "2024-1"), ("1 - 2", "1-2"), ("a–b", "a-b"),
    ("a−b", "A-B"), ("STRASSE", "straße"), (" 7 ", "7"), ("'7", "7"), ("P\t1", "P1"), ("P\u00a01", "P1"),
    ("P\u202f1", "P1"), ("P\u200b1", "P1"), ("\ufeffP1", "P1"), ("P\u00ad1", "P1"), ("P1\u200e", "P1"),
    ("Müller", "Mu\u0308ller"), ("７", "7"), ("٧", "7"), ("ﬁn", "fin"), ("P1\x00", "P1"),
]  # fmt: skip
DIFFERENT = [
    ("12", "1-2"),
    ("12", "1 2"),
    ("1", "10"),
    ("100", "1"),
    ("P1", "P11"),
    ("a1", "b1"),
    ("1.2", "12"),
    ("7.5", "7"),
]

UNKNOWN = [
    "", " ", "\u200b", "\ufeff", "NA", "na", "N/A", "n/a", "n. a.", "#N/A", "<NA>", "nan", "NaN", "null", "NULL",
    "None", "-", "--", "—", "?", "???", ".",
    "unknown", "Unknown", "(unknown)", "[none]", "ANONYMOUS", "k.A.", "k. A.", "n.d.",
    "N/D", "unbekannt", "Non renseigné", "keine Angabe", "-1", "-99", "-99.0", "#VALUE!", "#REF!", "XXXX", "NA ",
]  # fmt: skip
KNOWN = ["0", "7", "0000", "P1", "X", "KA", "ND", "N.D.", "K.A.", "NAN1", "A-1", "1-2", "Anna", "Nadia", "Null1", "p-1"]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_ids_that_differ_only_in_form_are_the_same(first, second):
    assert canonical(first) == canonical(second) != ""


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_other_ids_stay_different(first, second):
    assert canonical(first) != canonical(second)


@pytest.mark.parametrize("identity", UNKNOWN)
def test_markers_of_the_unknown_are_no_patients(identity):
    assert is_unknown(identity)


@pytest.mark.parametrize("identity", KNOWN)
def test_short_ids_and_initials_are_patients(identity):
    assert not is_unknown(identity)


def test_the_canonical_form_is_its_own_canonical_form():
    generator = random.Random(0)
    for _ in range(2000):
        text = "".join(generator.choice("aZ019 -_./é\u200b\u00a0٧ßp") for _ in range(generator.randrange(9)))
        assert canonical(canonical(text)) == canonical(text), ascii(text)


def test_spellings_are_grouped_and_sorted():
    assert spellings(["7", "0007", "8", "7", "P1"]) == {"7": ["0007", "7"], "8": ["8"], "p1": ["P1"]}
