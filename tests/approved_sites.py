"""Sites with keys of their own, as a hub approves them and as an instruction lists them."""

from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.deployment.roster import roster_line
from server.hub.approved_sites import ApprovedSite


def new_public_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


def approved_site(name: str, node: int) -> ApprovedSite:
    """A site with a new key, as `fedbus hub approve` records it."""
    key = new_public_key()
    line = public_line(key, "").strip()
    return ApprovedSite(name, node, fingerprint_of(key), "2026-01-31T12:00:00+00:00", line)


def new_roster(*names: str) -> tuple[str, ...]:
    """The list of these sites, each with a new key."""
    return tuple(roster_line(name, public_line(new_public_key(), name)) for name in names)
