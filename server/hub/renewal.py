"""`fedbus hub renew`: a new server certificate from the hub's own CA, which the sites trust already."""

import math
import re
from datetime import UTC, datetime
from pathlib import Path

from fedbus.errors import RunError
from fedbus.system.files import write_text
from fedbus.system.locks import hold
from server.hub.certificate_files import install_renewed, write_renewed
from server.hub.certificates import (
    fingerprint_of_certificate,
    make_server_certificate,
    read_ca,
    read_expiry,
    read_hosts,
)
from server.hub.folder import SETTINGS, HubFolder

WARN_DAYS = 60
"""Before a certificate ends, `fedbus hub start` says so."""


def renew_certificate(hub: HubFolder, ca_key: Path | None = None) -> datetime:
    """Replace the server certificate and its key; a hub that is running uses them for new connections.

    The names and addresses in it stay the same. Both files are replaced, or neither: a command that is interrupted in
    between is completed by the next command on the hub's folder.

    Args:
        hub: The hub.
        ca_key: The private key of the CA; None: `ca.key` in the hub's folder.

    Returns:
        When the new certificate ends: in two years, or with its CA.

    Raises:
        RunError: If the CA's key is missing, readable by others or not that of `ca.crt`, if the CA has expired, or if
            a file can't be written.
    """
    with hold(hub.path / ".renewal", f"{hub.certificate} is being renewed", "Try again when that has finished."):
        ca = read_ca(hub.ca_certificate, (ca_key or hub.ca_key).expanduser().resolve())
        hosts = read_hosts(hub.certificate, first=hub.settings.host)
        server = make_server_certificate(ca, hosts)
        until = server.certificate.not_valid_after_utc
        fingerprint = fingerprint_of_certificate(server.certificate)
        hub.audit.record("certificate renewed", names=hosts, until=f"{until:%Y-%m-%d}", sha256=fingerprint)
        write_renewed(hub.path, server.certificate_pem, server.key_pem)
        install_renewed(hub.path, hub.certificate, hub.key)
    _write_date(hub.path / SETTINGS, until)
    return until


def expiry_warnings(hub: HubFolder) -> list[str]:
    """Return what is to be said about certificates that end soon.

    Raises:
        RunError: If one has ended, so that no site would connect.
    """
    found = []
    for file, remedy in (
        (hub.certificate, f"Renew it: fedbus hub renew {hub.path}"),
        (hub.ca_certificate, "Make a new hub with `fedbus hub init` and send its ca.crt to every site."),
    ):
        until, days = read_expiry(file), days_left(file)
        if days <= 0:
            raise RunError(f"{file} ended on {until:%Y-%m-%d}: no site would connect.", remedy)
        if days <= WARN_DAYS:
            found.append(f"{file} ends in {days} days, on {until:%Y-%m-%d}; then no site can connect. {remedy}")
    return found


def days_left(certificate: Path) -> int:
    """Return for how many days a certificate is valid, the last one included; 0 or less once it has ended."""
    return math.ceil((read_expiry(certificate) - datetime.now(UTC)).total_seconds() / 86_400)


def _write_date(settings: Path, until: datetime) -> None:
    """Correct the date in the comment at the top of hub.toml, if it is still there."""
    text = settings.read_text(encoding="utf-8")
    corrected = re.sub(r"(?m)^(# server\.crt is valid until )\d{4}-\d\d-\d\d", rf"\g<1>{until:%Y-%m-%d}", text)
    if corrected != text:
        write_text(settings, corrected)
