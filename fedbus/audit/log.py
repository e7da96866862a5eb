"""The audit log in the folder of a hub or a site: `audit.jsonl`, to which any of its processes appends.

Each line is on the disk before the action that it records continues. If a line can't be written, nothing of it stays.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path

from fedbus.audit.chain import Chain, read_chain
from fedbus.audit.entry import Entry, digest_of
from fedbus.audit.head import HEAD_FILE, HEAD_MISSING, Head, read_head, write_head
from fedbus.errors import FedbusWarning, RunError
from fedbus.system.files import write_synced
from fedbus.system.locks import try_lock

LOG_FILE = "audit.jsonl"
TORN_FILE = "audit.torn-{}"
"""Name of the file of an incomplete line, by the start of its digest, so that no such file replaces another."""

WAIT_SECONDS = 60.0
"""For another process to finish its line, which takes milliseconds unless that process was suspended."""

Details = str | int | float | list[str]


class AuditLog:
    """The audit log of a folder; it is created with its first entry.

    Args:
        folder: The folder of a hub or a site.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / LOG_FILE

    def record(self, event: str, **details: Details) -> None:
        """Append an event, and wait until it is on the disk: call it before the action that it records.

        Raises:
            RunError: If it can't be written, as on a full disk; nothing of it is left. The action must not follow.
        """
        try:
            with _locked(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                head = self._append_notices(file)
                self._append(file, head, event, details)
        except OSError as error:
            raise RunError(
                f"{self.path} could not be written ({error.strerror or error}), and nothing is done without a record.",
                "Free some disk space, or run as the user who owns the folder, then try again.",
            ) from error

    def note(self, event: str, **details: Details) -> None:
        """Append an event whose action gives nothing away: if it can't be written, a warning is all."""
        try:
            self.record(event, **details)
        except RunError as error:
            warnings.warn(f"Not recorded: {event}. {error}", FedbusWarning, stacklevel=2)

    def read(self) -> Chain:
        """Read and check the log; one that does not exist yet is empty.

        Raises:
            RunError: If it can't be read.
        """
        try:
            with _locked(self.path, os.O_RDONLY) as file:
                return read_chain(file.readall() or b"", read_head(self.folder))
        except FileNotFoundError:
            return read_chain(b"", read_head(self.folder))
        except OSError as error:
            raise RunError(
                f"{self.path} can't be read ({error.strerror or error}).", "Run as the user who owns the folder."
            ) from error

    def _append_notices(self, file: FileIO) -> Head:
        """Find where the log ends, and append what is to be said about its end; return the head to continue from."""
        size = os.fstat(file.fileno()).st_size
        head = read_head(self.folder)
        if head is not None and head.bytes == size:
            return head
        file.seek(0)
        content = file.readall() or b""
        end = content.rfind(b"\n") + 1
        lost = head is None and size > 0
        head = replace(_continue_head(content[:end], head), bytes=end)
        if end < size:
            head = self._set_aside(file, head, content[end:])
        if lost:
            head = self._append(file, head, HEAD_MISSING, {"file": HEAD_FILE})
        return head

    def _set_aside(self, file: FileIO, head: Head, torn: bytes) -> Head:
        """Move an incomplete line into a file of its own, and record that."""
        name = TORN_FILE.format(digest_of(torn)[:8])
        write_synced(self.folder / name, torn)
        file.truncate(head.bytes)
        details: dict[str, Details] = {"file": name, "bytes": len(torn), "sha256": digest_of(torn)}
        return self._append(file, head, "incomplete line set aside", details)

    def _append(self, file: FileIO, head: Head, event: str, details: dict[str, Details]) -> Head:
        line = Entry.now(head.number + 1, head.sha256, event, details).to_line()
        after = Head(head.number + 1, digest_of(line), head.bytes + len(line) + 1)
        try:
            _write(file, line + b"\n")
            write_head(self.folder, after)
        except (OSError, RunError):
            with suppress(OSError):
                file.truncate(head.bytes)
            raise
        return after


def _continue_head(lines: bytes, head: Head | None) -> Head:
    """Return the head of a log that does not end where its head says.

    After a power cut the head can be some lines behind: those are taken if they continue it. Otherwise the log has been
    changed. Then the number and the digest of the head are kept, so that the next line shows the difference.
    """
    if head is None:
        found = read_chain(lines, None).entries
        return Head(found[-1][0].number, found[-1][1]) if found else Head()
    for line in lines[head.bytes :].split(b"\n")[:-1]:
        try:
            entry = Entry.from_line(line)
        except ValueError:
            break
        if (entry.number, entry.previous) != (head.number + 1, head.sha256):
            break
        head = Head(entry.number, digest_of(line))
    return head


def _write(file: FileIO, content: bytes) -> None:
    written = 0
    while written < len(content):  # on a nearly full disk, the system writes only a part
        written += file.write(content[written:])
    os.fsync(file.fileno())


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[FileIO]:
    """Open the log without a buffer, and hold its lock.

    Raises:
        OSError: If it can't be opened.
        RunError: If another process keeps the lock.
    """
    mode = "rb" if flags == os.O_RDONLY else "r+b"
    with FileIO(os.open(path, flags, 0o600), mode) as file:
        deadline = time.monotonic() + WAIT_SECONDS
        while not try_lock(file):
            if time.monotonic() > deadline:
                raise RunError(f"Another process holds {path}.", "End that process, or wait for it, then try again.")
        yield file
