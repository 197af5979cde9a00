"""A TCP proxy that a test can cut, or make silent, in the middle of what goes through."""

from __future__ import annotations

import contextlib
import socket
import threading

__all__ = ["CuttingProxy"]


class CuttingProxy:
    """Passes bytes to a local port; once ``left`` bytes went to the server, every line is cut.

    ``left`` is None while nothing is cut. ``is_silent`` takes connections and passes nothing on.
    """

    def __init__(self, target_port: int) -> None:
        self.left: int | None = None
        self.is_silent = False
        self.sent = 0
        self._target = target_port
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, n_bytes: int | None) -> None:
        """Cut when so many more bytes have gone to the server; None mends the line."""
        with self._lock:
            self.left = n_bytes

    def close(self) -> None:
        """End every connection."""
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            if self.left is not None and self.left <= 0:
                line.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._lines += [line, server]
            threading.Thread(target=self._pass, args=(line, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, line, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if self.is_silent:
                    continue
                if to_server:
                    data = self._allowed(data)
                    if not data:
                        break
                target.sendall(data)
        for line in (source, target):
            line.close()

    def _allowed(self, data: bytes) -> bytes:
        with self._lock:
            self.sent += len(data)
            if self.left is None:
                return data
            data, self.left = data[: max(self.left, 0)], self.left - len(data)
            is_over = self.left <= 0
        if is_over:
            self._cut()
        return data

    def _cut(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
