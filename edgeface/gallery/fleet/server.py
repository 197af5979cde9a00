"""The seam for servers of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeface.gallery.fleet.rows import FleetRow, RowStamp

__all__ = ["FleetServer"]


class FleetServer(Protocol):
    """Keeps rows that it cannot read. Nothing that it says is believed without a check.

    Every method ends within the time-out the server was opened with, and raises
    :class:`~edgeface.errors.FleetUnavailableError` where the server did not answer or refused;
    what was written then may or may not be there. A write is seen by every later reading.
    """

    def stamps(self) -> list[RowStamp]:
        """Return the stamps of every row, in any order."""
        ...

    def fetch(self, keys: Sequence[str]) -> list[FleetRow]:
        """Return the rows of ``keys`` that are there, in any order."""
        ...

    def write(self, rows: Sequence[FleetRow]) -> None:
        """Keep ``rows``, in the place of those of the same keys."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the rows of ``keys``; one that is not there is no error."""
        ...

    def close(self) -> None:
        """Free the connection; may be called twice."""
        ...
