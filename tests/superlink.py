"""A stand-in for Flower's SuperLink: it answers HTTPS and records every request."""

import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from server.hub.certificates import make_ca, make_server_certificate

ANSWER = b"\x0a\x03\xff\x00\x01"


class SuperLink(ThreadingHTTPServer):
    """Answers every call with `ANSWER` and records path, headers and body."""

    daemon_threads = True

    def __init__(self, ca_certificate: Path, folder: Path) -> None:
        ca = make_ca("127.0.0.1")
        server = make_server_certificate(ca, ["127.0.0.1"])
        ca_certificate.write_bytes(ca.certificate_pem)
        (folder / "server.crt").write_bytes(server.certificate_pem)
        (folder / "server.key").write_bytes(server.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        super().__init__(("127.0.0.1", 0), _Recorder)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.seen.append((self.command, self.path, headers, body))
        self.send_response(418)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("x-inside", "secret")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass
