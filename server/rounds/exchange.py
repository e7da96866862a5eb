"""The folder through which a deployed run and its sites exchange arrays: see `fedbus.transport.stored_arrays`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedbus.errors import RunError
from fedbus.system.files import make_private_folder, write_text, write_whole
from fedbus.system.scratch import scratch_folder
from fedbus.transport.stored_arrays import EXCHANGE, IN, LIMIT, OUT, StoredArrays
from server.flower_internals import HttpGrid


@dataclass(frozen=True)
class Exchange:
    """The folder of one run.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def open(self, limit: int) -> None:
        """Delete what earlier messages left, and let each site send arrays again.

        Args:
            limit: The most bytes that a site may send in its reply.
        """
        for path in [path for path in self.folder.glob("*/**/*") if path.is_file()]:
            path.unlink(missing_ok=True)
        for name in (OUT, IN):
            (self.folder / name).mkdir(exist_ok=True)
        write_text(self.folder / LIMIT, str(limit))

    def detach(self, messages: Sequence[Message]) -> None:
        """Write the arrays of messages into files, each record once, and leave in the messages where they are."""
        described = dict[int, ConfigRecord]()
        for message in messages:
            content = RecordDict({EXCHANGE: ConfigRecord({EXCHANGE: self.folder.name})})
            for name, record in message.content.items():
                if isinstance(record, ArrayRecord):
                    if id(record) not in described:
                        described[id(record)] = self._store(record)
                    record = described[id(record)]
                content[name] = record
            message.content = content

    def _store(self, record: ArrayRecord) -> ConfigRecord:
        arrays = {name: array.data for name, array in record.items()}
        stored = StoredArrays.of(arrays)

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.writelines(arrays.values())

        write_whole(self.folder / OUT / stored.digest, write)
        return ConfigRecord(stored.to_config())

    def attach(self, reply: Message, name: str, most: int) -> None:
        """Put the arrays that a site has sent back into its reply, if it has any.

        Args:
            reply: The reply.
            name: The record that they belong to.
            most: The most bytes that they may have.

        Raises:
            RunError: If they are too large, damaged or missing.
        """
        record = reply.content.get(name) if reply.has_content() else None
        if not isinstance(record, ConfigRecord):
            return
        stored = StoredArrays.from_config(record, most)
        arrays = self._take(stored)
        # Shapes and types are read from the arrays themselves, after they have been checked.
        del reply.content[name]  # Flower logs a record that is replaced
        reply.content[name] = ArrayRecord({key: Array("", (), "numpy.ndarray", data) for key, data in arrays.items()})

    def _take(self, stored: StoredArrays) -> dict[str, bytes]:
        """Read a file that a site has sent, and delete it; another site may have a wrong one of the same name."""
        fault = RunError("The arrays of a reply are missing.", "Rerun with --resume.")
        for path in sorted(self.folder.glob(f"{IN}/*/{stored.digest}")):
            try:
                if path.stat().st_size != stored.size:  # before it is read
                    raise RunError("The arrays of a reply are incomplete.", "Rerun with --resume.")
                arrays = stored.split(path.read_bytes())
            except RunError as error:
                fault = error
            except OSError:  # its site has just begun another file
                continue
            else:
                path.unlink(missing_ok=True)
                return arrays
        raise fault


@contextmanager
def open_exchange(grid: Grid, parent: Path) -> Iterator[Exchange | None]:
    """Make the folder of a run, and delete it at the end of the block; None in a simulation.

    Args:
        grid: Flower's grid.
        parent: Where to make it.
    """
    if not isinstance(grid, HttpGrid):
        yield None
        return
    make_private_folder(parent)
    with scratch_folder(parent) as folder:
        yield Exchange(folder)
