"""Key pairs of sites: what Flower and OpenSSH load, and what a hub refuses as a public key."""

import base64
import hashlib
import shutil
import stat
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from flwr.cli.supernode.register import try_load_public_key
from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

from clients.site.keys import fingerprint, make_key_pair
from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.errors import RunError
from server.hub.site_keys import read_public_key

P384 = ec.generate_private_key(ec.SECP384R1())
OPENSSH = (Encoding.PEM, PrivateFormat.OpenSSH)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "site.key", tmp_path / "st-mary.pub"
    make_key_pair(private, public, "st-mary")
    return private, public


def test_a_fingerprint_is_the_hash_of_the_key_s_bytes(pair):
    kind, blob, name = pair[1].read_text().split(" ")
    assert (kind, name) == ("ecdsa-sha2-nistp384", "st-mary\n")
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    expected = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    assert read_public_key(pair[1]) == ("st-mary", expected, f"{kind} {blob}")
    assert fingerprint(pair[0]) == expected
    assert len(expected) == 50


def test_flower_loads_both_halves_as_one_pair(pair):
    private, public = pair
    keys = _try_setup_client_authentication(
        Namespace(auth_supernode_private_key=str(private), auth_supernode_public_key=None)
    )
    assert keys[1] == load_pem_public_key(try_load_public_key(public))
    assert isinstance(keys[1].curve, ec.SECP384R1)
    assert fingerprint_of(keys[1]) == fingerprint(private)


def test_a_private_key_is_readable_only_by_its_owner_and_never_overwritten(pair):
    private, public = pair
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(FileExistsError):
        make_key_pair(private, public, "st-mary")
    assert private.read_bytes() == before


def test_every_pair_is_different(pair, tmp_path):
    make_key_pair(tmp_path / "b.key", tmp_path / "b.pub", "b")
    assert fingerprint(tmp_path / "b.key") != fingerprint(pair[0])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"no key",
        P384.private_bytes(*OPENSSH, NoEncryption())[:200],
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*OPENSSH, NoEncryption()),
        ed25519.Ed25519PrivateKey.generate().private_bytes(*OPENSSH, NoEncryption()),
        public_line(P384.public_key(), "x").encode(),
    ],
    ids=["empty", "bytes", "text", "cut", "p256", "ed25519", "public"],
)  # fmt: skip
def test_a_file_that_is_not_a_site_s_private_key_is_refused(tmp_path, content):
    (tmp_path / "site.key").write_bytes(content)
    with pytest.raises(RunError, match=r"site\.key is not an ECDSA key on P-384"):
        fingerprint(tmp_path / "site.key")


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(pair):
    program = shutil.which("ssh-keygen")
    if not program:
        pytest.skip("no ssh-keygen on this machine")
    subprocess.run([program, "-qpf", pair[0], "-P", "", "-N", "secret"], timeout=20, check=True)
    with pytest.raises(RunError, match="without a passphrase"):
        fingerprint(pair[0])


def line(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = P384, name: str = "st-mary") -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {name}\n".encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (P384.private_bytes(*OPENSSH, NoEncryption()), "is a private key, which must never be sent"),
        (
            P384.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "is a private key, which must never be sent",
        ),
        (line(ec.generate_private_key(ec.SECP256R1())), "of type ecdsa-sha2-nistp256, not ecdsa-sha2-nistp384"),
        (line(ed25519.Ed25519PrivateKey.generate()), "of type ssh-ed25519, not"),
        (b'command="x" ' + line(), 'of type command="x", not'),
        (line()[:80] + b" st-mary", "contains a damaged key"),
        (b"ecdsa-sha2-nistp384 !!!! st-mary", "contains a damaged key"),
        (
            b"ecdsa-sha2-nistp384 " + line(ed25519.Ed25519PrivateKey.generate()).split(b" ", 1)[1],
            "contains a damaged key",
        ),
        (line(name=""), "does not name its site"),
        (line(name="st mary"), "'st mary' can't name a folder"),
        (line(name="../x"), "can't name a folder"),
        (line(name="all"), "'all' means several sites"),
        (line() * 2, "is not one line"),
        (b"", "is not one line"),
        (b"key", "is not one line"),
        (b"\xff\xfe", "is not text"),
        (P384.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "is not one line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the keys are new ones in every process
)
def test_anything_but_a_site_s_public_key_is_refused(tmp_path, content, words):
    (tmp_path / "x.pub").write_bytes(content)
    with pytest.raises(RunError, match=rf"x\.pub.*{words}"):
        read_public_key(tmp_path / "x.pub")


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(RunError, match=r"x\.pub can't be read \(No such file"):
        read_public_key(tmp_path / "x.pub")


def test_a_key_sent_by_mail_may_have_other_ends_of_line(tmp_path):
    (tmp_path / "x.pub").write_bytes(b"\n" + line().replace(b"\n", b"\r\n"))
    assert read_public_key(tmp_path / "x.pub")[:2] == ("st-mary", fingerprint_of(P384.public_key()))
