"""Arrays of a deployed federation's messages, which travel beside them, as one file for each record.

Inside a message, 94 MB would pass three more programs, each of which parses and copies them: the SuperLink, a site's
SuperNode, and Flower's part of the run. Instead the run and the gateway share a folder on the hub's machine, and a
site's worker fetches and sends files there over one TLS connection. The message names the file by its SHA-256.

    HUB/exchange/NAME/limit            bytes that one site may send now
                      out/DIGEST       for sites, written by the run
                      in/SITE/DIGEST   from sites, written by the gateway
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fedbus.errors import RunError

FOLDER, LIMIT, OUT, IN = "exchange", "limit", "out", "in"
"""Names on the hub's machine."""

EXCHANGE = "exchange"
"""The record of an instruction that names the run's folder, and the key in that record."""

EXCHANGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")

PATH = "/v1/arrays"
"""Where the gateway answers: PATH/EXCHANGE/DIGEST?offset=BYTES."""

PIECE_BYTES = 4 << 20
"""The most that one request carries: on a bad line, only this much is repeated."""

MOST_ARRAYS = 10_000


@dataclass(frozen=True)
class StoredArrays:
    """What a message says of a file with arrays, each in NumPy's format, one after another.

    Attributes:
        digest: SHA-256 of the file in hexadecimal digits.
        names: The names of the arrays.
        sizes: Their bytes.
    """

    digest: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, bytes]) -> Self:
        """Describe the file that `arrays` make, joined."""
        digest = hashlib.sha256()
        for content in arrays.values():
            digest.update(content)
        return cls(digest.hexdigest(), tuple(arrays), tuple(map(len, arrays.values())))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], most: int) -> Self:
        """Read what a message says.

        Args:
            config: A record of the message.
            most: The largest file that is accepted, in bytes.

        Raises:
            RunError: If it is malformed, or the file is larger.
        """
        try:
            digest, names, sizes = config["sha256"], list(config["names"]), list(config["sizes"])
            valid = (
                DIGEST.fullmatch(digest)
                and len(set(names)) == len(names) == len(sizes) <= MOST_ARRAYS
                and all(isinstance(name, str) for name in names)
                and all(isinstance(size, int) and size >= 0 for size in sizes)
            )
        except (KeyError, TypeError) as error:
            raise _not_valid() from error
        if not valid:
            raise _not_valid()
        if sum(sizes) > most:
            raise RunError(
                f"The arrays have {sum(sizes)} bytes, more than {most}.", "Run the same version of FedBUS everywhere."
            )
        return cls(digest, tuple(names), tuple(sizes))

    def to_config(self) -> dict[str, Any]:
        """Return what a message says of the file."""
        return {"sha256": self.digest, "names": list(self.names), "sizes": list(self.sizes)}

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return sum(self.sizes)

    def offsets(self) -> range:
        """Return where the pieces of the file begin; there is one even of an empty file."""
        return range(0, max(1, self.size), PIECE_BYTES)

    def split(self, content: bytes) -> dict[str, bytes]:
        """Return the arrays of the file.

        Raises:
            RunError: If it is not the file that the message names.
        """
        if len(content) != self.size or hashlib.sha256(content).hexdigest() != self.digest:
            raise RunError("The arrays of a message are damaged.", "Send them again; check disk and memory.")
        found, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            found[name] = content[start : start + size]
            start += size
        return found


def check_exchange_name(name: object) -> str:
    """Return the name of a run's folder.

    Raises:
        RunError: If it is none.
    """
    if not isinstance(name, str) or not EXCHANGE_NAME.fullmatch(name):
        raise _not_valid()
    return name


def _not_valid() -> RunError:
    return RunError("A message does not say where its arrays are.", "Run the same version of FedBUS everywhere.")
