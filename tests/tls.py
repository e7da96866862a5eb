"""A TLS handshake on loopback, as hub and site would make it."""

import socket
import ssl
import threading
from pathlib import Path


def handshake(certificate: Path, key: Path, ca: Path, host: str, *, strict: bool = True) -> bytes:
    """Connect to a server with `certificate`, trusting `ca` and expecting `host`; return what the server sends."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(ca))
    if strict:
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=_serve, args=(listener, server))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as raw,
                client.wrap_socket(raw, server_hostname=host) as secure,
            ):
                return secure.recv(16)
        finally:
            thread.join()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    raw, _ = listener.accept()
    raw.settimeout(10)
    with raw:
        try:
            with context.wrap_socket(raw, server_side=True) as secure:
                secure.send(b"welcome")
        except (ssl.SSLError, ConnectionError):
            pass  # the client refused: the test checks its error
