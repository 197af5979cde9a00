"""Being a service: one program for each folder, news to systemd, an end when asked to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from examples.attendance.errors import AttendanceError

__all__ = ["lock_folder", "notify", "stop_on_signals", "watchdog_period_s"]

_LOCK_FILE = "office.lock"


def notify(message: str) -> bool:
    """Tell systemd ``message``, such as ``READY=1``; return whether there was anybody to tell."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.sendto(message.encode(), address)
        return True
    return False


def watchdog_period_s() -> float | None:
    """Return how often systemd wants to hear from the program, None when it does not listen."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    own = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not (microseconds.isdigit() and int(microseconds) > 0 and own):
        return None
    # Half of the limit, as sd_watchdog_enabled(3) advises.
    return int(microseconds) / 2e6


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder of an office for this program alone; the system lets go at its end.

    Raises:
        AttendanceError: Another program has it.
    """
    try:
        import fcntl
    except ImportError:  # a system without flock: SQLite's own locks are what is left
        yield
        return
    with (folder / _LOCK_FILE).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise AttendanceError(
                f"the office in {folder} is running; use its pages, or stop it first"
            ) from exc
        yield
