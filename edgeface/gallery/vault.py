"""The file of a gallery with its keys: reading and changing rows under one lock."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeface.errors import (
    GalleryError,
    GalleryIntegrityError,
    GalleryModelError,
    SubjectNotFoundError,
)
from edgeface.gallery.anchor import Anchor
from edgeface.gallery.base import short_id
from edgeface.gallery.keys import GalleryKeys, KeyOptions, Slot, new_gallery_slot, unlock
from edgeface.gallery.ledger import Change, Head, Ledger, Row
from edgeface.gallery.people import ACTIVE, People, PersonEntry
from edgeface.gallery.schema import as_gallery_errors, connect, create_file
from edgeface.gallery.tables import TABLES

__all__ = ["Vault", "fill_new", "new_gallery_id"]


def new_gallery_id() -> str:
    """Return 32 random hexadecimal digits, which name a gallery for good."""
    return secrets.token_hex(16)


def fill_new(
    connection: sqlite3.Connection, keys: GalleryKeys, slot: Slot, *, model_id: str, size: int
) -> Change:
    """Write the first rows of a gallery; the caller adds others and calls ``finish``."""
    change = Change(connection, Ledger(keys), Head(0, 0))
    change.insert("meta", "gallery_id", keys.gallery_id)
    change.insert("model", model_id, size, ACTIVE)
    change.insert("slot", slot.source, slot.key_id, slot.parameters, slot.wrapped)
    return change


class Vault:
    """An opened gallery file. Every method may be called from several threads.

    ``people`` are its rows; ``version`` goes up whenever they may have changed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        keys: GalleryKeys,
        options: KeyOptions | None,
    ) -> None:
        self.path = path
        self.keys = keys
        self.people = People(keys, self._query)
        self.version = 0
        self.head = Head(0, 0)
        self._connection: sqlite3.Connection | None = connection
        self._ledger = Ledger(keys)
        self.anchor = (
            None if options is None else Anchor(options.anchor_folder(), keys, self._ledger)
        )
        self._lock = threading.RLock()
        self._data_version: int | None = None

    @classmethod
    def create(
        cls, path: Path, *, model_id: str, size: int, options: KeyOptions
    ) -> GalleryKeys | None:
        """Make an empty gallery at ``path``; return its keys, None when there is one already."""
        keys, slot = new_gallery_slot(new_gallery_id(), options)

        def fill(connection: sqlite3.Connection) -> None:
            fill_new(connection, keys, slot, model_id=model_id, size=size).finish()

        with as_gallery_errors(path):
            return keys if create_file(path, fill) else None

    @classmethod
    def open(
        cls,
        path: Path,
        options: KeyOptions,
        *,
        keys: GalleryKeys | None = None,
        check_anchor: bool = True,
    ) -> Vault:
        """Return the gallery at ``path``, with every row checked; ``keys`` if they are known.

        Without ``check_anchor`` the file may be an older copy, and no anchor is written.

        Raises:
            GalleryFormatError: Not a gallery, damaged, or of another schema.
            GalleryIntegrityError: A row was changed, moved, removed or put back.
            GalleryRollbackError: The whole file is an older copy.
            GalleryKeyError: The key is not at hand, or wrong.
            GalleryError: Others may read the file, or it cannot be opened.
        """
        with as_gallery_errors(path):
            connection = connect(path)
            try:
                gallery_id = _gallery_id(connection, path)
                if keys is None or keys.gallery_id != gallery_id:
                    keys = unlock(gallery_id, _slots(connection), options)
                vault = cls(connection, path, keys, options if check_anchor else None)
                vault._refresh(connection)
            except BaseException:
                connection.close()
                raise
        vault._write_anchor()
        return vault

    def require_model(self, model_id: str, size: int) -> None:
        """Check that ``model_id`` is the active model.

        Raises:
            GalleryModelError: It is not.
        """
        active = self.people.active
        if (active.model_id, active.embedding_size) == (model_id, size):
            return
        raise GalleryModelError(
            f"the gallery {self.path} belongs to model {short_id(active.model_id)} (embedding "
            f"size {active.embedding_size}), this is model {short_id(model_id)} (embedding size "
            f"{size}); open it with the model it was made with, move it with `edgeface gallery "
            "migrate --to`, or enrol the subjects again in a new gallery"
        )

    def require(self, name: str) -> PersonEntry:
        """Return the person called ``name``, inside :meth:`reading` or :meth:`changing`.

        Raises:
            SubjectNotFoundError: Nobody has that name.
        """
        entry = self.people.find(name)
        if entry is None:
            raise SubjectNotFoundError("no subject of that name is enrolled")
        return entry

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, with the people up to date; one thread at a time.

        Everything that is read inside is of one state of the file.
        """
        with self._lock, as_gallery_errors(self.path):
            connection = self._opened()
            with _snapshot(connection):
                self._refresh(connection)
                yield connection

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """Give a change that is stored whole when the block ends, and not at all if it raises.

        It is on the disk afterwards.
        """
        with self._lock, as_gallery_errors(self.path):
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._refresh(connection)
                change = Change(connection, self._ledger, self.head)
                yield change
                head = change.finish()
                connection.execute("COMMIT")
            except BaseException:
                # What is on the disk is not known after a failed commit: read it again.
                self._data_version = None
                # SQLite has rolled back by itself after some errors, such as a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self.head = head
            self._write_anchor()
            self._take(connection, change)

    def empty_log(self) -> bool:
        """Bring the log into the file and cut it to nothing; return whether that was possible.

        A deleted row stays in the log otherwise, whatever ``secure_delete`` says.
        """
        with self._lock, as_gallery_errors(self.path):
            row = self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not row[0]

    def rewrite(self) -> None:
        """Write the file anew, without free space."""
        with self._lock, as_gallery_errors(self.path):
            self._opened().execute("VACUUM")

    def copy_to(self, connection: sqlite3.Connection) -> None:
        """Copy the whole gallery, consistent, into another database."""
        with self.reading() as ours:
            ours.backup(connection)

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock, as_gallery_errors(self.path):
            connection, self._connection = self._connection, None
            self.people = People(self.keys, self._query)
            if connection is not None:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise GalleryError(f"the gallery {self.path} was closed; open it again")
        return self._connection

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Read and check every row, if another connection has written since the last time."""
        # Read before the head: another process may change the gallery in between, and then the
        # head is newer than the anchor, never older.
        state = None if self.anchor is None else self.anchor.read()
        with _snapshot(connection):
            # data_version changes when another connection commits.
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return
            head = self._ledger.read(connection)
            people = self._checked_rows(connection, head)
        if self.anchor is not None:
            self.anchor.check(state, head, self.path)
        people.finish(self.people)
        self.people, self.head, self._data_version = people, head, version
        self.version += 1

    def _take(self, connection: sqlite3.Connection, change: Change) -> None:
        """Bring the people up to date with a change that is stored."""
        known, self._data_version = self._data_version, None
        if any(one.table == "model" for one in change.done):
            # Another model has other templates: everything is read again.
            self._refresh(connection)
            return
        self.people.apply(change.done)
        self.version += 1
        self._data_version = known

    def _write_anchor(self) -> None:
        if self.anchor is not None:
            self.anchor.write(self.head)

    def _query(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        return self._opened().execute(statement, tuple(parameters)).fetchall()

    def _checked_rows(self, connection: sqlite3.Connection, head: Head) -> People:
        """Return the people, after every row of the file was read once and none was kept."""
        people = People(self.keys, self._query)
        total = 0
        for table in TABLES:
            for row in connection.execute(table.select):
                total += self._ledger.mark(table.name, row)
                people.take(table.name, row)
        if total % (1 << 256) != head.digest:
            raise GalleryIntegrityError(
                f"rows of the gallery {self.path} were changed, removed, swapped, or are earlier "
                "ones put back; restore it from a backup"
            )
        return people


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Make every read of the block see one state of the file."""
    inside = connection.in_transaction
    if not inside:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if not inside:
            # SQLite has ended it by itself after some errors.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("COMMIT")


def _slots(connection: sqlite3.Connection) -> list[Slot]:
    rows = connection.execute(
        "SELECT source, key_id, parameters, wrapped FROM slot ORDER BY id"
    ).fetchall()
    return [Slot(*row) for row in rows]


def _gallery_id(connection: sqlite3.Connection, path: Path) -> str:
    row = connection.execute("SELECT value FROM meta WHERE key = 'gallery_id'").fetchone()
    text = "" if row is None else str(row[0])
    # It names files: nothing but hexadecimal digits may be in it.
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise GalleryIntegrityError(f"the gallery {path} does not say its id; restore a backup")
    return text
