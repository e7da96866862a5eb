"""Fetch the arrays of the hub's messages, and send those of answers: see `fedbus.transport.stored_arrays`.

All that leaves the site here is in an answer that has been checked and recorded.
"""

import ssl
import threading
import time

import httpx
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from clients.flower_internals import sign_request
from clients.site.ca import read_ca_certificate
from clients.site.folder import SiteFolder
from clients.site.keys import read_private_key
from fedbus.errors import RunError
from fedbus.transport.stored_arrays import EXCHANGE, PATH, PIECE_BYTES, StoredArrays, check_exchange_name

MOST_BYTES = 2 << 30
"""Of the arrays of one message, before the model that it is about is known."""

TIMEOUT_SECONDS = 60.0
"""Without a byte from the hub."""

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.2, 10.0
GIVE_UP_SECONDS = 600.0
"""For one piece, all tries and pauses together."""


class ArrayExchange:
    """The files that a site exchanges with its hub.

    Args:
        site: The site's folder.
        stop: Ends a transfer, and the pauses between two tries.

    Raises:
        RunError: If the private key can't be read.
    """

    def __init__(self, site: SiteFolder, stop: threading.Event) -> None:
        self.site, self.stop = site, stop
        self.key = read_private_key(site.key)

    def name_in(self, message: Message) -> str:
        """Remove the name of the hub's run from a message, and return it; empty if it has none."""
        record = message.content.pop(EXCHANGE, None) if message.has_content() else None
        return str(record.get(EXCHANGE, "")) if isinstance(record, ConfigRecord) else ""

    def fetch(self, message: Message, run: str) -> None:
        """Put the arrays that a message refers to into it.

        Raises:
            RunError: If they are too large or damaged, or the hub does not have them.
            httpx.HTTPError: If the hub does not answer for ten minutes.
        """
        left = MOST_BYTES
        for name, record in list(message.content.items()):
            if isinstance(record, ConfigRecord) and "sha256" in record:
                stored = StoredArrays.from_config(record, left)
                left -= stored.size
                arrays = self._read(stored, check_exchange_name(run))
                # Shapes and types are read from the arrays themselves, after they have been checked.
                found = {key: Array("", (), "numpy.ndarray", data) for key, data in arrays.items()}
                del message.content[name]  # Flower logs a record that is replaced
                message.content[name] = ArrayRecord(found)

    def send(self, answer: Message, run: str) -> None:
        """Send the arrays of an answer, and leave in it where they are.

        Raises:
            RunError: If the hub does not expect them.
            httpx.HTTPError: If the hub does not answer for ten minutes.
        """
        for name, record in list(answer.content.items()) if answer.has_content() else ():
            if isinstance(record, ArrayRecord):
                arrays = {key: array.data for key, array in record.items()}
                stored = StoredArrays.of(arrays)
                self._write(stored, b"".join(arrays.values()), check_exchange_name(run))
                del answer.content[name]
                answer.content[name] = ConfigRecord(stored.to_config())

    def _read(self, stored: StoredArrays, run: str) -> dict[str, bytes]:
        pieces = []
        with self._connect() as hub:
            for offset in stored.offsets():
                most = min(PIECE_BYTES, stored.size - offset)
                pieces.append(self._call(hub, "GET", f"{PATH}/{run}/{stored.digest}?offset={offset}", most=most))
        return stored.split(b"".join(pieces))

    def _write(self, stored: StoredArrays, content: bytes, run: str) -> None:
        with self._connect() as hub:
            for offset in stored.offsets():
                piece = content[offset : offset + PIECE_BYTES]
                self._call(hub, "PUT", f"{PATH}/{run}/{stored.digest}?offset={offset}", piece)

    def _connect(self) -> httpx.Client:
        context = ssl.create_default_context(cadata=read_ca_certificate(self.site.ca_certificate).decode())
        return httpx.Client(base_url=f"https://{self.site.settings.hub}", verify=context, timeout=TIMEOUT_SECONDS)

    def _call(self, hub: httpx.Client, method: str, path: str, content: bytes | None = None, most: int = 0) -> bytes:
        """Make a call, again and again while the hub does not answer or is busy; return the answer's body.

        Raises:
            RunError: If the hub refuses the call, or the body is larger than `most`.
            httpx.HTTPError: If it does not answer in time, or the site is leaving.
        """
        deadline, pause = time.monotonic() + GIVE_UP_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            if self.stop.is_set():
                raise httpx.ReadTimeout("This site is leaving.")
            # As it is: a body of a few kilobytes could be unpacked to one of any size.
            request = hub.build_request(method, path, content=content, headers={"accept-encoding": "identity"})
            sign_request(request, self.key)
            try:
                return self._read_body(hub.send(request, stream=True), most, deadline)
            except (httpx.TransportError, httpx.HTTPStatusError):
                if time.monotonic() > deadline or self.stop.wait(pause):
                    raise
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def _read_body(self, answer: httpx.Response, most: int, deadline: float) -> bytes:
        try:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                answer.raise_for_status()
            if answer.status_code != httpx.codes.OK:
                raise RunError(
                    f"The hub refuses the arrays of a message (HTTP {answer.status_code}); its run may have ended.",
                    "Install the hub's version of FedBUS here, if this happens in every round.",
                )
            pieces, size = [], 0
            for piece in answer.iter_raw():
                if self.stop.is_set() or time.monotonic() > deadline:
                    raise httpx.ReadTimeout("The hub sends a byte now and then, or this site is leaving.")
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise RunError(
                        "The hub's answer is larger than it has said.", "Install the hub's version of FedBUS."
                    )
            return b"".join(pieces)
        finally:
            answer.close()
