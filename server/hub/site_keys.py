"""A site's public key as the hub receives it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedbus.deployment.keys import KEY_TYPE, fingerprint_of
from fedbus.deployment.private_folder import read_bytes
from fedbus.errors import RunError
from fedbus.settings.schema import check_site_name

_REMEDY = "Ask the site for the .pub file that `fedbus site init` made, and pass it on as it is."


def read_public_key(path: Path) -> tuple[str, str]:
    """Read a site's .pub file.

    Returns:
        The site's name (the key's comment) and the key's fingerprint (`SHA256:...`).

    Raises:
        RunError: it can't be read, is a private key, not one ECDSA key on P-384, or names no site.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise RunError(
            f"{path} is a private key: never send that one.",
            "Delete this copy, make a new pair at the site with `fedbus site init`, and send its .pub file.",
        )
    kind, line, name = _parts(path, content)
    if kind != KEY_TYPE:
        raise RunError(f"{path} holds a key of kind {kind}, not {KEY_TYPE}.", _REMEDY)
    try:
        key = load_ssh_public_key(line)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} holds a damaged key ({error}).", _REMEDY) from error
    assert isinstance(key, ec.EllipticCurvePublicKey)  # KEY_TYPE says so
    try:
        check_site_name(name)
    except ValueError as error:
        problem = str(error).removeprefix("sites: ")
        raise RunError(f"{path}: the site's name behind the key is no name: {problem}.", _REMEDY) from error
    return name, fingerprint_of(key)


def _parts(path: Path, content: bytes) -> tuple[str, bytes, str]:
    """Kind, kind and key, and comment of the one line of a public key file."""
    try:
        lines = content.decode().strip().splitlines()
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is not a public key: it is no text.", _REMEDY) from error
    words = lines[0].split(maxsplit=2) if len(lines) == 1 else []
    if len(words) < 2:
        raise RunError(f"{path} is not a public key: it is not one line of kind, key and name.", _REMEDY)
    if len(words) < 3:
        raise RunError(f"{path} does not say whose key it is: no name follows the key.", _REMEDY)
    return words[0], " ".join(words[:2]).encode(), words[2]
