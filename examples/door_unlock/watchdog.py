"""Tells systemd that the door works, as long as it does: see sd_notify(3)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

__all__ = ["Watchdog"]

_DEFAULT_INTERVAL_S = 2.0


class Watchdog:
    """Sends ``WATCHDOG=1`` at half the time that the unit allows, while ``is_alive`` says so.

    Does nothing where no service manager listens. A process that is stopped or hangs says nothing,
    and is ended by systemd; the lock's own clock has locked the door long before.
    """

    def __init__(self, is_alive: Callable[[], bool], address: str | None = None) -> None:
        self._is_alive = is_alive
        given = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        # An address with @ is in Linux's abstract namespace.
        self._address = "\0" + given[1:] if given.startswith("@") else given
        limit_us = os.environ.get("WATCHDOG_USEC", "")
        limit_s = int(limit_us) / 1e6 if limit_us.isdigit() else 2 * _DEFAULT_INTERVAL_S
        self._interval_s = max(0.1, limit_s / 2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Say that the service is ready, and begin."""
        self.notify("READY=1")
        if self._address:
            self._thread.start()

    def stop(self) -> None:
        """Say that the service ends; may be called twice."""
        self._stop.set()
        self.notify("STOPPING=1")

    def notify(self, text: str) -> None:
        """Send ``text`` to the service manager, if there is one."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(text.encode(), self._address)
        except OSError:
            # systemd ends a service that it does not hear of: that is the safe outcome.
            return

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            if self._is_alive():
                self.notify("WATCHDOG=1")
