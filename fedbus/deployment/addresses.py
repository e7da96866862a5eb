"""Names and addresses of machines, checked before they are written to a certificate or a settings file."""

import ipaddress
import re

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE)


def check_host(host: str) -> None:
    """Check that sites can reach a machine by `host`: a DNS name, or an IPv4 or IPv6 address without brackets.

    Raises:
        ValueError: If it is neither, or an address that means every machine or only one network interface.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        # no top-level domain is a number: a last label of digits is a mistyped IP address
        if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            raise ValueError(
                f"{host!r} is neither a DNS name (letters, digits, '-', '.') nor an IP address, without scheme and port"
            ) from None
        return
    if address.is_unspecified or "%" in host:
        raise ValueError(f"{host!r} does not identify one machine on the network; give the hub's own address")


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT` into the host without brackets and the port (1 to 65535).

    Raises:
        ValueError: If the port is missing or out of range, or the host is invalid (see `check_host`).
    """
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{address!r} does not end in a port; write HOST:PORT, for example hub.example.org:9092")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if bracketed != (":" in bare):
        raise ValueError(f"{address!r} is not HOST:PORT; an IPv6 address needs brackets: [2001:db8::1]:9092")
    check_host(bare)
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    """Join host and port, the inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
