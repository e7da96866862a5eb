"""A site's public key as the hub receives it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedbus.deployment.keys import KEY_TYPE, fingerprint_of, public_line
from fedbus.deployment.private_folder import read_bytes
from fedbus.deployment.site_name import valid_site_name
from fedbus.errors import RunError
from fedbus.text import plain_text

_REMEDY = "Ask the site for the .pub file that `fedbus site init` made, and use that file unchanged."


def read_public_key(path: Path) -> tuple[str, str, str]:
    """Read a site's .pub file.

    Returns:
        The site's name (the key's comment), the key's fingerprint (`SHA256:...`), and the key (`TYPE KEY`).

    Raises:
        RunError: If the file can't be read, contains a private key, is not one ECDSA key on P-384, or names no site.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise RunError(
            f"{path} is a private key, which must never be sent.",
            "Delete this copy, make a new key at the site with `fedbus site init`, and send its .pub file.",
        )
    kind, line, name = _split_line(path, content)
    if kind != KEY_TYPE:
        raise RunError(f"{path} contains a key of type {plain_text(kind)}, not {KEY_TYPE}.", _REMEDY)
    try:
        key = load_ssh_public_key(line)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} contains a damaged key ({plain_text(error)}).", _REMEDY) from error
    assert isinstance(key, ec.EllipticCurvePublicKey)  # by KEY_TYPE
    try:
        valid_site_name(name)
    except ValueError as error:
        raise RunError(f"{path}: the text after the key is not a site's name: {error}.", _REMEDY) from error
    return name, fingerprint_of(key), public_line(key, "").strip()


def _split_line(path: Path, content: bytes) -> tuple[str, bytes, str]:
    """Split the one line of a public key file into its type, type and key, and comment."""
    try:
        lines = content.decode().strip().splitlines()
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is not a public key: it is not text.", _REMEDY) from error
    words = lines[0].split(maxsplit=2) if len(lines) == 1 else []
    if len(words) < 2:
        raise RunError(f"{path} is not a public key: it is not one line of type, key and name.", _REMEDY)
    if len(words) < 3:
        raise RunError(f"{path} does not name its site: no name follows the key.", _REMEDY)
    return words[0], " ".join(words[:2]).encode(), words[2]
