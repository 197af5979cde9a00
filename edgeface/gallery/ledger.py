"""The sealed head: what shows that a row was put back, taken away, swapped or changed.

Every row has a mark, a keyed hash of all that is in it. The head holds a counter, the sum of the
marks of all rows modulo 2**256, and a keyed hash of both. A change adds and takes away a few
marks, so that its cost does not grow with the gallery; a check sums them all again.

The sum is a multiset hash (Clarke et al., "Incremental multiset hash functions", 2003): with
keyed marks, nobody without the key finds another set of rows with the same sum.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgeface.errors import GalleryIntegrityError
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.sealing import keyed_hash
from edgeface.gallery.tables import TABLE

__all__ = ["Change", "Head", "Ledger", "Row", "RowChange"]

Row: TypeAlias = "tuple[Any, ...]"
"""The values of a row in the order of its table's columns, ``id`` first."""

_MODULUS = 1 << 256
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Head:
    """How many changes the gallery has seen, and the sum of the marks of its rows."""

    counter: int
    digest: int


@dataclass(frozen=True, slots=True, eq=False)
class RowChange:
    """A row that was written, or removed when ``row`` is None."""

    table: str
    row_id: int
    row: Row | None


class Ledger:
    """Makes and checks marks and heads with the keys of one gallery."""

    def __init__(self, keys: GalleryKeys) -> None:
        self._row_key = keys.of("rows")
        self._head_key = keys.of("head")
        self._gallery_id = keys.gallery_id

    def mark(self, table: str, row: Row) -> int:
        """Return the mark of ``row``, below 2**256.

        Raises:
            GalleryIntegrityError: The row holds NULL, which no gallery writes.
        """
        if None in row:
            raise GalleryIntegrityError("a row of the gallery holds nothing where a value belongs")
        return int.from_bytes(keyed_hash(self._row_key, table, *row), "big")

    def total(self, table: str, rows: Iterable[Row]) -> int:
        """Return the sum of the marks of ``rows``."""
        return sum(self.mark(table, row) for row in rows) % _MODULUS

    def read(self, connection: sqlite3.Connection) -> Head:
        """Return the head of the file.

        Raises:
            GalleryIntegrityError: It is missing or was not written with the gallery's key.
        """
        rows = connection.execute("SELECT counter, digest, mac FROM head").fetchall()
        if len(rows) != 1:
            raise GalleryIntegrityError("the gallery has no head; restore it from a backup")
        counter, digest, mac = rows[0]
        head = Head(counter, int.from_bytes(digest, "big"))
        if len(digest) != _DIGEST_BYTES or not hmac.compare_digest(mac, self.seal(head)):
            raise GalleryIntegrityError(
                "the head of the gallery was changed, or belongs to another gallery; restore it "
                "from a backup"
            )
        return head

    def write(self, connection: sqlite3.Connection, head: Head) -> None:
        """Store ``head``, sealed, in the open transaction."""
        digest = head.digest.to_bytes(_DIGEST_BYTES, "big")
        connection.execute(
            "INSERT OR REPLACE INTO head (id, counter, digest, mac) VALUES (1, ?, ?, ?)",
            (head.counter, digest, self.seal(head)),
        )

    def seal(self, head: Head) -> bytes:
        """Return the keyed hash of ``head``: 32 bytes."""
        digest = head.digest.to_bytes(_DIGEST_BYTES, "big")
        return keyed_hash(self._head_key, self._gallery_id, head.counter, digest)


@dataclass(slots=True, eq=False)
class Change:
    """The rows that one transaction writes and removes; keeps the sum of marks right."""

    connection: sqlite3.Connection
    ledger: Ledger
    head: Head
    done: list[RowChange] = field(default_factory=list)
    _delta: int = 0

    def insert(self, table: str, *values: Any) -> int:
        """Add a row with ``values`` in the order of the table's columns; return its id."""
        row_id = self.connection.execute(TABLE[table].insert, values).lastrowid
        if row_id is None:  # pragma: no cover - SQLite always has one after an insert
            raise GalleryIntegrityError("the gallery did not number a new row")
        self._note(table, int(row_id), (row_id, *values))
        return int(row_id)

    def update(self, table: str, row_id: int, *values: Any) -> None:
        """Set every column of a row."""
        self._delta -= self._mark_of(table, row_id)
        self.connection.execute(TABLE[table].update, (*values, row_id))
        self._note(table, row_id, (row_id, *values))

    def delete(self, table: str, row_id: int) -> None:
        """Remove a row."""
        self._delta -= self._mark_of(table, row_id)
        self.connection.execute(TABLE[table].delete, (row_id,))
        self.done.append(RowChange(table, row_id, None))

    def row(self, table: str, row_id: int) -> Row:
        """Return a row as it is stored now.

        Raises:
            GalleryIntegrityError: It is not there.
        """
        found = self.connection.execute(TABLE[table].select_one, (row_id,)).fetchone()
        if found is None:
            raise GalleryIntegrityError("a row of the gallery is gone; open the gallery again")
        return tuple(found)

    def finish(self) -> Head:
        """Write the new head and return it."""
        new = Head(self.head.counter + 1, (self.head.digest + self._delta) % _MODULUS)
        self.ledger.write(self.connection, new)
        return new

    def _note(self, table: str, row_id: int, row: Row) -> None:
        self._delta += self.ledger.mark(table, row)
        self.done.append(RowChange(table, row_id, row))

    def _mark_of(self, table: str, row_id: int) -> int:
        return self.ledger.mark(table, self.row(table, row_id))
