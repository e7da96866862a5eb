"""A site's folder for tests, and a hub that answers HTTPS but has approved no site."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from clients.site.folder import SiteFolder, init_site
from server.hub.certificates import CertificateAndKey, make_ca, make_server_certificate

HUB = "hub.example.org:9092"
"""The address in a site's settings; nothing connects to it."""

UNREACHABLE = "127.0.0.1:9"
"""The discard port: nothing listens there."""


def make_site(root: Path, hub: str = UNREACHABLE, ca: CertificateAndKey | None = None) -> SiteFolder:
    """The site `st-mary` in `root/st-mary`, of a hub with this CA."""
    certificate = root / "downloaded.crt"
    certificate.write_bytes((ca or make_ca("127.0.0.1")).certificate_pem)
    return init_site(root / "st-mary", "st-mary", hub, certificate)


@contextmanager
def https_server(ca: CertificateAndKey, folder: Path) -> Iterator[str]:
    """Serve over TLS and answer every call with 401, as a hub does for an unknown key; yields HOST:PORT."""
    signed = make_server_certificate(ca, ["127.0.0.1"])
    certificate, key = folder / "server.crt", folder / "server.key"
    certificate.write_bytes(signed.certificate_pem)
    key.write_bytes(signed.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _UnknownKeyHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _UnknownKeyHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        pass
