"""Ctrl-C, SIGTERM and a closed terminal: the first ends the work and cleans up, the third ends the process at once.

A second Ctrl-C during the clean-up is usually impatience. Raised as an exception, it would leave processes and files
behind and print a traceback, so it only prints a line.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Action = Callable[[int], object]
"""Called with 1 for the first signal of this process, and with 2 for the second."""

END_AT_ONCE = 3

STOPPING = b"\nStopping. Press Ctrl-C again to end at once, without cleaning up.\n"

_received: list[int] = []
_actions: list[Action] = []


def handle_signals() -> None:
    """Let the first signal raise KeyboardInterrupt, as Python does for Ctrl-C only; call it in the main thread."""
    for number in _ending_signals():
        signal.signal(number, _on_signal)


@contextmanager
def on_signals(action: Action) -> Iterator[None]:
    """Call `action` for the first two signals inside the block, instead of raising KeyboardInterrupt."""
    previous = {number: signal.signal(number, _on_signal) for number in _ending_signals()}
    _actions.append(action)
    try:
        yield
    finally:
        _actions.remove(action)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the handlers at the end of a block in which a library installs its own, in Python or in C."""
    if threading.current_thread() is not threading.main_thread():  # no handler can be installed here
        yield
        return
    previous = {number: signal.getsignal(number) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stops_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first signal set an event; the second one interrupts code that does not check the event."""

    def act(count: int) -> None:
        if count > 1:
            raise KeyboardInterrupt
        stop.set()

    with on_signals(act):
        yield


def exit_status() -> int:
    """Return the exit status of a process that a signal has ended, as shells define it: 128 and the signal's number."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def print_stopping() -> None:
    """Print that the process is stopping; `print` is not allowed in a signal handler."""
    with suppress(OSError):  # the terminal is closed
        os.write(2, STOPPING)


def _ending_signals() -> list[int]:
    """The signals that end a process; SIGHUP is not among them under `nohup`, nor on Windows."""
    found = [int(signal.SIGINT), int(signal.SIGTERM)]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(int(signal.SIGHUP))
    return found


def _on_signal(signum: int, frame: FrameType | None) -> None:
    _received.append(signum)
    count = len(_received)
    if count >= END_AT_ONCE:
        _end_at_once()
    (_actions[-1] if _actions else _interrupt)(count)


def _interrupt(count: int) -> None:
    if count == 1:
        raise KeyboardInterrupt
    print_stopping()


def _end_at_once() -> None:
    """End this process and all that it started; what they leave behind is removed by the next start."""
    try:
        import psutil  # missing where only training is installed; no process is started there

        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    finally:
        os._exit(exit_status())
