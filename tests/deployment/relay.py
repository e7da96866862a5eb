"""A connection between a site and its hub that a test can cut and restore."""

import socket
import threading
from contextlib import suppress


class Relay:
    """Forwards its own port to another port of this machine."""

    def __init__(self, target: int) -> None:
        self.target, self.cut_off = target, False
        self.open: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self.cut_off = True
        while self.open:
            _shut_down(self.open.pop())  # the threads that forward for it then end, and close it

    def restore(self) -> None:
        """Accept connections again."""
        self.cut_off = False

    def close(self) -> None:
        """Close the port and every connection."""
        self.listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:  # closed
                return
            try:
                if self.cut_off:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.open += [near, far]
            threading.Thread(target=_forward, args=(near, far), daemon=True).start()


def _forward(near: socket.socket, far: socket.socket) -> None:
    """Forward in both directions until both are closed."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    near.close()
    far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 16):
            sink.sendall(block)
    _shut_down(source)
    _shut_down(sink)


def _shut_down(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
