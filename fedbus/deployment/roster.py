"""The sites of a study by name and public key: every site is sent the list, and its operator approves it."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedbus.deployment.keys import KEY_TYPE, fingerprint_of, public_line
from fedbus.deployment.site_name import valid_site_name

MOST_SITES = 1000
"""Sites of a study; 250 bytes each."""

MOST_OF_A_KEY = 200
"""Characters of a public key without its type; one on P-384 has 184."""


def roster_line(name: str, public_line: str) -> str:
    """Return a site's entry, `NAME TYPE KEY`, from the line of its public key file; the comment is left out."""
    return " ".join([name, *public_line.split()[:2]])


@lru_cache(maxsize=16)  # every message contains the list
def read_roster(lines: tuple[str, ...]) -> Mapping[str, str]:
    """Read and check the list of sites in an instruction.

    Returns:
        The public keys (`TYPE KEY`) by site, sorted by name.

    Raises:
        ValueError: If an entry is malformed, there are too many, or two sites have the same name or key.
    """
    if len(lines) > MOST_SITES:
        raise ValueError(f"it lists more than {MOST_SITES} sites")
    found = dict(_read_line(line) for line in lines)
    if len(found) < len(lines) or len(set(found.values())) < len(lines):
        raise ValueError("two sites of its list have the same name or the same key")
    return MappingProxyType(dict(sorted(found.items())))


@lru_cache(maxsize=MOST_SITES)
def key_fingerprint(public_key: str) -> str:
    """Return the fingerprint (`SHA256:...`) of a public key, `TYPE KEY`.

    Raises:
        ValueError: If it is not an ECDSA key on P-384, written as OpenSSH writes it.
    """
    try:
        key = load_ssh_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the public key of a site in its list is damaged") from error
    # One key has several spellings in base64; only one of them counts, so that no key is listed twice.
    if not isinstance(key, ec.EllipticCurvePublicKey) or public_line(key, "").strip() != public_key:
        raise ValueError("the public key of a site in its list is not written as OpenSSH writes one on P-384")
    return fingerprint_of(key)


def fingerprints(lines: tuple[str, ...]) -> dict[str, str]:
    """Return the fingerprint of each site's key, by name.

    Raises:
        ValueError: As `read_roster`.
    """
    return {name: key_fingerprint(key) for name, key in read_roster(lines).items()}


def _read_line(line: str) -> tuple[str, str]:
    words = line.split(" ")
    if len(words) != 3 or words[1] != KEY_TYPE or len(words[2]) > MOST_OF_A_KEY:
        raise ValueError("an entry of its list of sites is not a name and a public key")
    key = " ".join(words[1:])
    key_fingerprint(key)
    return valid_site_name(words[0]), key
