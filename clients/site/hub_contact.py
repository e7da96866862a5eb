"""What a site can find out about its hub: whether it answers, with which certificate and clock, and knows the site."""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from clients.flower_internals import (
    HEARTBEAT_DEFAULT_INTERVAL,
    MAX_TIMESTAMP_DIFF_SECONDS,
    MIN_TIMESTAMP_DIFF_SECONDS,
    ActivateNodeRequest,
    DeactivateNodeRequest,
    FleetHttpClient,
    NodeAuthHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    public_key_to_bytes,
)
from clients.site.ca import read_ca_certificate
from clients.site.folder import SiteFolder
from clients.site.keys import read_private_key
from fedbus.text import plain_text


@dataclass(frozen=True)
class Contact:
    """The result of asking the hub.

    Attributes:
        answers: Whether a hub with a certificate of the right CA answers.
        wrong_ca: Whether a server with another certificate answers.
        skew: Seconds by which this clock is ahead of the hub's; None if unknown.
        too_skewed: Whether Flower refuses requests because of the skew.
        approved: Whether the hub knows this site's key; None if it could not be asked.
        problem: What is wrong, for people; empty if nothing is.
    """

    answers: bool
    wrong_ca: bool = False
    skew: float | None = None
    too_skewed: bool = False
    approved: bool | None = None
    problem: str = ""

    @property
    def permanent(self) -> bool:
        """Whether the problem remains until somebody fixes it, so that trying again is useless."""
        return self.approved is False or self.wrong_ca or self.too_skewed


def ask_hub(site: SiteFolder) -> Contact:
    """Ask the hub for its time and whether it accepts this site's key; not to be called while the site is joined.

    Raises:
        RunError: If ca.crt or the private key is damaged, or ca.crt has expired.
    """
    hub = site.settings.hub
    context = ssl.create_default_context(cadata=read_ca_certificate(site.ca_certificate).decode())
    # The time before the request, not after the answer: a slow line would look like a clock that is ahead.
    asked = datetime.now(UTC)
    try:
        with httpx.stream("GET", f"https://{hub}/", verify=context, timeout=10) as answer:  # no body, however long
            date = answer.headers.get("date", "")
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            problem = (
                f"the certificate of {hub} can't be verified with {site.ca_certificate} ({_openssl_reason(error)})"
            )
            return Contact(False, wrong_ca=True, problem=problem)
        return Contact(False, problem=f"{hub} does not answer ({plain_text(error)})")
    except httpx.TransportError as error:
        return Contact(False, problem=f"{hub} does not answer ({type(error).__name__})")
    hub_time = _read_date(date)
    skew = (asked - hub_time).total_seconds() if hub_time else None
    # Flower's difference is the hub's time minus the request's, so its limits have the opposite sign.
    if skew is not None and not -MAX_TIMESTAMP_DIFF_SECONDS < skew < -MIN_TIMESTAMP_DIFF_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        problem = f"this machine's clock is {abs(skew):.0f} s {side} the hub's"
        return Contact(True, skew=skew, too_skewed=True, problem=problem)
    approved, problem = _check_key(site, context)
    return Contact(True, skew=skew, approved=approved, problem=problem)


def _read_date(header: str) -> datetime | None:
    """Read the time of an HTTP answer; None if there is none, or it is malformed."""
    try:
        time = parsedate_to_datetime(header)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _openssl_reason(error: httpx.ConnectError) -> str:
    """OpenSSL's reason: unknown issuer, expired, or another host's certificate."""
    text = plain_text(error)
    return text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text


def _check_key(site: SiteFolder, context: ssl.SSLContext) -> tuple[bool | None, str]:
    """Activate the node and deactivate it again: the only call in which Flower tells whether it knows a key.

    Returns:
        `approved` and `problem` of a `Contact`.
    """
    private = read_private_key(site.key)
    public = private.public_key()
    client = FleetHttpClient(
        f"https://{site.settings.hub}",
        interceptors=(
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(private, public),
        ),
        verify=context,
    )
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    with client:
        try:
            node = client.ActivateNode(request)
            client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == httpx.codes.UNAUTHORIZED:
                file = site.public_key.name
                return False, f"the hub has not approved this site's key, or has revoked it: send it {file}"
            if status in (502, 503, 504):
                return None, "the hub is not ready yet"
            if status == httpx.codes.PRECONDITION_FAILED:  # known, but already active
                return True, _deactivate_stale_node(site, client)
            return None, f"the hub gave an unexpected answer (HTTP {status}); is it another version of FedBUS?"
        except httpx.TransportError as error:
            return None, f"the hub does not answer ({type(error).__name__})"
    return True, ""


def _deactivate_stale_node(site: SiteFolder, client: FleetHttpClient) -> str:
    """Tell the hub that this site is not connected, which it could not do when it ended unexpectedly.

    Returns:
        The remaining problem: a site that does not know its number must wait for the hub's own time-out, a minute.
    """
    number = site.node.read_text(encoding="utf-8") if site.node.is_file() else ""
    if number.isdigit():
        with suppress(httpx.HTTPError):  # the number is another hub's, or the time-out is over
            client.DeactivateNode(DeactivateNodeRequest(node_id=int(number)))
            return ""
    return "the hub still considers this site connected, for up to a minute after it ended unexpectedly"
