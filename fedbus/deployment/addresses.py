"""Names and addresses of machines, checked before they go into a certificate or a settings file."""

import ipaddress
import re

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE)


def check_host(host: str) -> None:
    """Check that sites can call a machine by this: a DNS name, or an IPv4 or IPv6 address without brackets.

    Raises:
        ValueError: it is neither, or an address that stands for every machine or for one interface.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        # a last label of digits is a mistyped address: no top-level domain is a number
        if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            raise ValueError(
                f"{host!r} is neither a DNS name (letters, digits, '-', '.') nor an IP address, without scheme and port"
            ) from None
        return
    if address.is_unspecified or "%" in host:
        raise ValueError(f"{host!r} does not lead to one machine from elsewhere; name the hub's own address")


def split_address(address: str) -> tuple[str, int]:
    """Part `HOST:PORT`, or `[IPV6]:PORT`, into the host without brackets and the port (1 to 65535).

    Raises:
        ValueError: the port is missing or out of range, or the host is none (see `check_host`).
    """
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{address!r} does not end in a port; write HOST:PORT, e.g. hub.example.org:9092")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if bracketed != (":" in bare):
        raise ValueError(f"{address!r} is no HOST:PORT; an IPv6 address needs brackets, e.g. [2001:db8::1]:9092")
    check_host(bare)
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    """Write host and port as `split_address` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
