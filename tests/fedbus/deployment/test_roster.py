"""The list of sites that an instruction contains."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.deployment.roster import MOST_SITES, fingerprints, read_roster, roster_line
from tests.approved_sites import new_public_key, new_roster


def test_the_line_of_a_key_file_becomes_an_entry_and_is_read_again():
    key = new_public_key()
    line = roster_line("north", public_line(key, "a comment"))
    assert line == f"north {public_line(key, '').strip()}"
    assert read_roster((line,)) == {"north": public_line(key, "").strip()}
    assert fingerprints((line,)) == {"north": fingerprint_of(key)}


def test_sites_are_sorted_by_name():
    assert list(read_roster(new_roster("south", "east", "north"))) == ["east", "north", "south"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.removeprefix("north "),
        lambda line: line.replace("north", "../north"),
        lambda line: line.replace("north", "nor\x1b[2Jth"),
        lambda line: line.replace("north", "all"),
        lambda line: line + " comment",
        lambda line: line.replace("nistp384", "nistp256"),
        lambda line: line[:-20],
        lambda line: line + "=",
        lambda line: line[:-1] + "\n",
        lambda line: line + "A" * 10_000,
        lambda line: roster_line("north", public_line(ec.generate_private_key(ec.SECP256R1()).public_key(), "")),
        lambda line: "",
    ],
)
def test_a_malformed_entry_is_refused(spoil):
    (line,) = new_roster("north")
    with pytest.raises(ValueError, match=r"site|name"):
        read_roster((spoil(line),))


def test_a_name_or_a_key_is_listed_once():
    one, other = new_roster("north", "south")
    with pytest.raises(ValueError, match="the same name or the same key"):
        read_roster((one, one))
    with pytest.raises(ValueError, match="the same name or the same key"):
        read_roster((one, other.replace("south", "north")))
    with pytest.raises(ValueError, match="the same name or the same key"):
        read_roster((one, one.replace("north", "east")))


def test_a_key_in_another_spelling_is_no_second_key():
    (line,) = new_roster("north")
    spelled = f"{line[:-1]}="  # base64 ignores the bits that are left over
    if spelled == line:
        spelled = f"{line[:-3]}{chr(ord(line[-3]) + 1)}=="
    with pytest.raises(ValueError, match=r"public key|same key"):
        read_roster((line, spelled.replace("north", "east")))


def test_the_list_is_bounded():
    with pytest.raises(ValueError, match=f"more than {MOST_SITES} sites"):
        read_roster(("x",) * (MOST_SITES + 1))
