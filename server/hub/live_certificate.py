"""TLS of the hub's servers with the certificate that is on disk: a renewed one counts from the next connection on."""

import ssl
from contextlib import suppress
from pathlib import Path


def follow_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Let the connections of a server's context use the certificate as it is on disk when they begin.

    Open connections are not affected, so nothing of a run is lost.

    Args:
        context: The context of a server; its other settings remain in effect.
        certificate: The server's certificate.
        key: Its private key.

    Raises:
        OSError: If a file can't be read, or they do not belong together.
    """
    context.load_cert_chain(certificate, key)
    # OpenSSL calls this in every handshake, also if the client names no server.
    context.sni_callback = _Certificate(certificate, key).choose


class _Certificate:
    """A certificate and its key, read again when a file has changed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.files = certificate, key
        self.version, self.context = self._version(), self._load()

    def choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, first: ssl.SSLContext) -> None:
        """Give a connection the present certificate."""
        # Between the writing of the two files, they do not belong together: the next connection tries again.
        with suppress(OSError):
            if (version := self._version()) != self.version:
                self.context, self.version = self._load(), version
        connection.context = self.context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        return context

    def _version(self) -> list[tuple[int, int]]:
        return [(found.st_mtime_ns, found.st_ino) for found in map(Path.stat, self.files)]
