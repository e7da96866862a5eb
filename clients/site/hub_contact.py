"""What a site can find out about its hub: does it answer, whose certificate, what time is it there, am I let in."""

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
from clients.site.ca import read_authority
from clients.site.folder import SiteFolder
from clients.site.keys import read_private_key

MOST_SKEW_SECONDS = 60.0
"""Flower lets a request be 5 s ahead and 305 s behind; a clock that is this far behind will soon be too far."""


@dataclass(frozen=True)
class Contact:
    """What came of asking the hub.

    Attributes:
        answers: whether a hub with a certificate of the right authority answers.
        wrong_authority: whether somebody answers with another certificate.
        skew: seconds by which this clock is ahead of the hub's; None if nobody answers.
        too_skewed: whether that is more than Flower lets pass.
        approved: whether the hub knows this site's key; None if it could not be asked.
        problem: what is wrong, in words; empty if nothing is.
    """

    answers: bool
    wrong_authority: bool = False
    skew: float | None = None
    too_skewed: bool = False
    approved: bool | None = None
    problem: str = ""

    @property
    def hopeless(self) -> bool:
        """Whether trying again can't help before somebody mends something."""
        return self.approved is False or self.wrong_authority or self.too_skewed


def ask_hub(site: SiteFolder) -> Contact:
    """Ask the hub for its time and whether it lets this site in; do not ask while the site is joined.

    Raises:
        RunError: the authority's certificate is damaged or has expired, or the private key is damaged.
    """
    hub = site.settings.hub
    read_authority(site.ca_certificate)
    context = ssl.create_default_context(cafile=str(site.ca_certificate))
    asked = datetime.now(UTC)  # not when the answer is here: a slow line would look like a clock that is ahead
    try:
        answer = httpx.get(f"https://{hub}/", verify=context, timeout=10)
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Contact(
                False,
                wrong_authority=True,
                problem=f"{hub} has no certificate that {site.ca_certificate} vouches for ({_reason(error)})",
            )
        return Contact(False, problem=f"{hub} does not answer ({error})")
    except httpx.TransportError as error:
        return Contact(False, problem=f"{hub} does not answer ({type(error).__name__})")
    there = parsedate_to_datetime(answer.headers["date"]) if "date" in answer.headers else None
    skew = (asked - there).total_seconds() if there else None
    if skew is not None and not -MAX_TIMESTAMP_DIFF_SECONDS < skew < -MIN_TIMESTAMP_DIFF_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        problem = f"this machine's clock is {abs(skew):.0f} s {side} the hub's"
        return Contact(True, skew=skew, too_skewed=True, problem=problem)
    approved, problem = _knock(site)
    return Contact(True, skew=skew, approved=approved, problem=problem)


def _reason(error: httpx.ConnectError) -> str:
    """OpenSSL's words: unknown issuer, expired, another host's."""
    return str(error).partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or str(error)


def _knock(site: SiteFolder) -> tuple[bool | None, str]:
    """Activate the node and deactivate it again: the only call in which Flower says whether it knows a key."""
    private = read_private_key(site.key)
    public = private.public_key()
    client = FleetHttpClient.from_server_address(
        site.settings.hub,
        insecure=False,
        root_certificates=str(site.ca_certificate),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(private, public),
        ],
    )
    with client:
        try:
            node = client.ActivateNode(
                ActivateNodeRequest(
                    public_key=public_key_to_bytes(public), heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
                )
            )
            client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == httpx.codes.UNAUTHORIZED:
                return (
                    False,
                    f"the hub has not approved this site's key, or has revoked it: send it {site.public_key.name}",
                )
            if status in (502, 503, 504):
                return None, "the hub is not ready yet"
            if status == httpx.codes.PRECONDITION_FAILED:
                return True, _leave_late(site, client)
            return None, f"the hub answers strangely (HTTP {status}); is it another version of FedBUS?"
        except httpx.TransportError as error:
            return None, f"the hub does not answer ({type(error).__name__})"
    return True, ""


def _leave_late(site: SiteFolder, client: FleetHttpClient) -> str:
    """Tell the hub that this site is not connected, which it could not say when it ended suddenly.

    Returns:
        What is still wrong: without its number a site must wait for a minute, until the hub has noticed by itself.
    """
    number = site.node.read_text(encoding="utf-8") if site.node.is_file() else ""
    if number.isdigit():
        with suppress(httpx.HTTPError):  # the number is of another hub, or the hub has noticed meanwhile
            client.DeactivateNode(DeactivateNodeRequest(node_id=int(number)))
            return ""
    return "the hub still counts this site as connected, as it does for a minute after a sudden end"
