"""Files by which the gateway hands arrays from a run to its sites, and back: see `fedbus.transport.stored_arrays`."""

import hashlib
import os
from pathlib import Path

from fedbus.transport.stored_arrays import DIGEST, EXCHANGE_NAME, IN, LIMIT, OUT, PIECE_BYTES


class NotExpectedError(Exception):
    """No run expects this file, or not from this offset, or not of this size."""


class ArrayFiles:
    """The folders of all running runs.

    Args:
        folder: Their parent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, exchange: str, digest: str, offset: int) -> bytes:
        """Return a piece of a file that a run has written for its sites.

        Raises:
            NotExpectedError: If there is no such file.
        """
        path = self._run(exchange) / OUT / digest
        if not DIGEST.fullmatch(digest):
            raise NotExpectedError
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(PIECE_BYTES)
        except FileNotFoundError as error:
            raise NotExpectedError from error

    def write(self, site: str, exchange: str, digest: str, offset: int, content: bytes) -> None:
        """Write a piece of a file of a site's, of which there is one at a time.

        Args:
            site: The fingerprint of the site's key.
            exchange: The run's name.
            digest: The file's name.
            offset: Where the piece begins: at the end of the last one, or before, if that one is repeated.
            content: The piece.

        Raises:
            NotExpectedError: If no run expects this piece.
            OSError: If it can't be written.
        """
        folder = self._run(exchange) / IN / hashlib.sha256(site.encode()).hexdigest()[:32]
        path = folder / digest
        if not DIGEST.fullmatch(digest) or offset + len(content) > self._limit(exchange):
            raise NotExpectedError
        if offset == 0:
            folder.mkdir(exist_ok=True)  # not its parents: the run may have ended and deleted its folder
            for other in folder.iterdir():
                other.unlink()
        elif not path.is_file() or offset > path.stat().st_size:
            raise NotExpectedError
        with open(path, "r+b" if offset else "wb", opener=_open_private) as file:
            file.seek(offset)
            file.write(content)

    def _run(self, exchange: str) -> Path:
        if not EXCHANGE_NAME.fullmatch(exchange) or not (self.folder / exchange).is_dir():
            raise NotExpectedError
        return self.folder / exchange

    def _limit(self, exchange: str) -> int:
        try:
            return int((self._run(exchange) / LIMIT).read_text(encoding="utf-8"))
        except FileNotFoundError:  # the run has not sent anything yet
            return 0


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
