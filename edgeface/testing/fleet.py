"""A fleet's server in memory, which can fail on cue and lie on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edgeface.errors import FleetUnavailableError
from edgeface.gallery.fleet.rows import FleetRow, RowStamp

__all__ = ["FakeFleetServer"]


class FakeFleetServer:
    """Keeps rows in ``rows``, by their key; a test may change them as it likes.

    ``fail`` is asked before each single row is touched, with the number of rows touched so far;
    where it returns true the connection is cut: what was written before stays. ``fail_after`` is
    asked after a whole call, so that the answer alone is lost. Other devices share it as they
    would share a server.
    """

    def __init__(self) -> None:
        self.rows: dict[str, FleetRow] = {}
        self.steps = 0
        self.calls: list[str] = []
        self.fail: Callable[[int], bool] = lambda _step: False
        self.fail_after: Callable[[int], bool] = lambda _step: False
        self.is_closed = False
        self._lock = threading.RLock()

    def stamps(self) -> list[RowStamp]:
        """Return every stamp, oldest first."""
        with self._lock:
            self._step("stamps")
            return [row.stamp for row in self.rows.values()]

    def fetch(self, keys: Sequence[str]) -> list[FleetRow]:
        """Return the rows of ``keys`` that are there."""
        with self._lock:
            self._step("fetch")
            return [self.rows[key] for key in keys if key in self.rows]

    def write(self, rows: Sequence[FleetRow]) -> None:
        """Keep ``rows``, one after the other."""
        with self._lock:
            for row in rows:
                self._step("write")
                self.rows[row.stamp.key] = row
            self._answer()

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the rows of ``keys``, one after the other."""
        with self._lock:
            for key in keys:
                self._step("delete")
                self.rows.pop(key, None)
            self._answer()

    def close(self) -> None:
        """Remember that the connection was freed; the rows stay."""
        self.is_closed = True

    def _step(self, call: str) -> None:
        self.calls.append(call)
        self.steps += 1
        if self.fail(self.steps):
            raise FleetUnavailableError("the connection was cut")

    def _answer(self) -> None:
        if self.fail_after(self.steps):
            raise FleetUnavailableError("the connection was cut before the answer")
