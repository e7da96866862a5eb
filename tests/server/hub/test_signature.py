"""Which requests are signed with an approved key: as Flower's own client signs them, within Flower's own limits."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedbus.deployment.keys import fingerprint_of
from server.hub.signature import MAX_HEADER_CHARACTERS, signing_key
from tests.signed_calls import signed_headers

KEY, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
FINGERPRINT = fingerprint_of(KEY.public_key())


def signed(timestamp: str, key: ec.EllipticCurvePrivateKey = KEY) -> dict[str, str]:
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(timestamp.encode(), ec.ECDSA(hashes.SHA256()))
    return {
        "flwr-public-key": base64.b64encode(pem).decode(), "flwr-timestamp": timestamp,
        "flwr-signature": base64.b64encode(signature).decode(),
    }  # fmt: skip


def ago(seconds: float, zone: timezone = UTC) -> str:
    return (datetime.now(zone) - timedelta(seconds=seconds)).isoformat()


def test_a_request_of_flowers_client_is_accepted():
    assert signing_key(signed_headers(KEY), {FINGERPRINT}) == FINGERPRINT


@pytest.mark.parametrize("seconds", [0, 200, -2])
def test_flowers_limits_of_the_clock_hold(seconds):
    assert signing_key(signed(ago(seconds)), {FINGERPRINT}) == FINGERPRINT
    assert signing_key(signed(ago(seconds, timezone(timedelta(hours=9)))), {FINGERPRINT}) == FINGERPRINT


@pytest.mark.parametrize("seconds", [305, 4000, -1000, 1e9])
def test_another_time_is_refused(seconds):
    assert signing_key(signed(ago(seconds)), {FINGERPRINT}) == ""


@pytest.mark.parametrize("change", ["no zone", "no time", "not ASCII", "long"])
def test_an_odd_time_is_refused(change):
    now = ago(0)
    times = {"no zone": now.removesuffix("+00:00"), "no time": "", "not ASCII": now.replace("2", "２"),
             "long": now + "0" * MAX_HEADER_CHARACTERS}  # fmt: skip
    assert signing_key(signed(times[change]), {FINGERPRINT}) == ""


def test_only_the_approved_keys_own_signature_counts():
    assert signing_key(signed(ago(0), OTHER), {FINGERPRINT}) == ""
    assert signing_key(signed(ago(0)), {fingerprint_of(OTHER.public_key())}) == ""
    assert signing_key(signed(ago(0)), ()) == ""
    assert signing_key({}, {FINGERPRINT, ""}) == ""


@pytest.mark.parametrize("signature", ["", "!", "ü", "QUJD", "A" * (MAX_HEADER_CHARACTERS + 4)])
def test_a_malformed_signature_is_refused(signature):
    assert signing_key(signed(ago(0)) | {"flwr-signature": signature}, {FINGERPRINT}) == ""
