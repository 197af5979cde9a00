"""The record on the disk: SQLite, written ahead, on the disk when a call returns."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from examples.attendance.errors import AttendanceError
from examples.attendance.journal import Event, EventKind, StoredVisit, fold, replay
from examples.attendance.schema import SCHEMA, migrate
from examples.attendance.values import CorrectionAction, Method

__all__ = ["Store"]

_EVENT = (
    "id, kind, at_ms, recorded_ms, person_id, visit_id, camera, method, action, author, reason, "
    "arrived_ms, departed_ms"
)
_VISIT = (
    "visit_id, person_id, arrived_ms, departed_ms, camera, method, is_removed, is_departure_set"
)
_BUSY_S = 10.0


class Store:
    """One connection that all threads of the process share, one at a time.

    Events are appended only: the file itself refuses to change or delete them, except within
    :meth:`erasing`.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._is_erasing = False
        connection.create_function("erasing", 0, lambda: int(self._is_erasing))

    @classmethod
    def open(cls, path: Path, *, scripts: Sequence[str] = SCHEMA) -> Store:
        """Return the record at ``path``, made if it does not exist.

        Raises:
            AttendanceError: It is damaged, another program's, or of a later release.
        """
        _make_file(path)
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        store = cls(connection, path)
        try:
            with _as_attendance_errors():
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                # What is deleted is overwritten; a REPLACE runs the triggers of a DELETE.
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("PRAGMA recursive_triggers = ON")
                # What SQLite sorts or writes anew leaves nothing in a temporary folder.
                connection.execute("PRAGMA temp_store = MEMORY")
                store._require_whole()
                migrate(connection, scripts)
        except BaseException:
            connection.close()
            raise
        return store

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within a transaction; what is in it is kept whole or not at all.

        Raises:
            AttendanceError: The disk refuses, or a rule of the file is broken.
        """
        with self._lock, _as_attendance_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for questions."""
        with self._lock, _as_attendance_errors():
            yield self._connection

    @contextlib.contextmanager
    def erasing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within a transaction that may change and delete events."""
        with self._lock:
            self._is_erasing = True
            try:
                with self.writing() as connection:
                    yield connection
            finally:
                self._is_erasing = False

    def shred(self) -> None:
        """Write the file anew without what was deleted, and empty its log."""
        with self._lock, _as_attendance_errors():
            self._connection.execute("VACUUM")
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise AttendanceError(
                    "another program reads the record, so that its log still holds what was "
                    "deleted; close it and try again"
                )

    def append(self, connection: sqlite3.Connection, event: Event, sinks: Sequence[str]) -> None:
        """Write an event, what it makes of its visit, and a note for every sink."""
        values = (
            event.id, event.kind.value, event.at_ms, event.recorded_ms, event.person_id,
            event.visit_id, event.camera, event.method.value if event.method else None,
            event.action.value if event.action else None, event.author, event.reason,
            event.arrived_ms, event.departed_ms,
        )  # fmt: skip
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO event ({_EVENT}) VALUES ({marks})", values)
        if event.visit_id is not None:
            self._put(connection, fold(self.visit(event.visit_id), event))
        if event.kind is not EventKind.CHANGE:
            connection.executemany(
                "INSERT INTO outbox (sink, event_id) VALUES (?, ?)",
                [(sink, event.id) for sink in sinks],
            )

    def visit(self, visit_id: str) -> StoredVisit | None:
        """Return a visit, None when there is none of that id."""
        found = self.visits("visit_id = ?", (visit_id,))
        return found[0] if found else None

    def visits(self, where: str, values: Sequence[Any] = ()) -> list[StoredVisit]:
        """Return the visits that fit a condition, in order of arrival."""
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT {_VISIT} FROM visit WHERE {where} ORDER BY arrived_ms, visit_id", values
            ).fetchall()
        return [_visit(row) for row in rows]

    def events(self, where: str = "1", values: Sequence[Any] = ()) -> list[Event]:
        """Return the events that fit a condition, in the order in which they were recorded."""
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT {_EVENT} FROM event WHERE {where} ORDER BY seq", values
            ).fetchall()
        return [_event(row) for row in rows]

    def corrections(self, visit_ids: Sequence[str]) -> dict[str, list[Event]]:
        """Return the corrections of each of the visits."""
        found: dict[str, list[Event]] = {visit_id: [] for visit_id in visit_ids}
        # SQLite takes some thousand values at a time at least.
        for start in range(0, len(visit_ids), 500):
            part = visit_ids[start : start + 500]
            marks = ", ".join("?" * len(part))
            for event in self.events(f"kind = 'correction' AND visit_id IN ({marks})", part):
                found[event.visit_id or ""].append(event)
        return found

    def replayed(self) -> dict[str, StoredVisit]:
        """Return every visit as computed from the events alone."""
        return replay(self.events())

    def meta(self, key: str) -> str | None:
        """Return a value that is kept beside the record."""
        with self.reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, connection: sqlite3.Connection, key: str, value: str) -> None:
        """Keep a value beside the record."""
        connection.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._connection.close()

    def _put(self, connection: sqlite3.Connection, visit: StoredVisit) -> None:
        connection.execute(
            f"INSERT INTO visit ({_VISIT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (visit_id) DO UPDATE SET arrived_ms = excluded.arrived_ms, "
            "departed_ms = excluded.departed_ms, is_removed = excluded.is_removed, "
            "is_departure_set = excluded.is_departure_set",
            (
                visit.visit_id, visit.person_id, visit.arrived_ms, visit.departed_ms,
                visit.camera, visit.method.value, visit.is_removed, visit.is_departure_set,
            ),
        )  # fmt: skip

    def _require_whole(self) -> None:
        (answer,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise AttendanceError(
                f"the record {self.path} is damaged: {answer}; put a backup in its place"
            )


def _make_file(path: Path) -> None:
    """Make an empty file for its owner alone, before SQLite writes to it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as exc:
        raise AttendanceError(f"the record {path} cannot be made: {exc.strerror}") from exc


def _visit(row: Sequence[Any]) -> StoredVisit:
    return StoredVisit(
        visit_id=row[0],
        person_id=row[1],
        arrived_ms=row[2],
        departed_ms=row[3],
        camera=row[4],
        method=Method(row[5]),
        is_removed=bool(row[6]),
        is_departure_set=bool(row[7]),
    )


def _event(row: Sequence[Any]) -> Event:
    return Event(
        id=row[0],
        kind=EventKind(row[1]),
        at_ms=row[2],
        recorded_ms=row[3],
        person_id=row[4],
        visit_id=row[5],
        camera=row[6],
        method=Method(row[7]) if row[7] else None,
        action=CorrectionAction(row[8]) if row[8] else None,
        author=row[9],
        reason=row[10],
        arrived_ms=row[11],
        departed_ms=row[12],
    )


@contextlib.contextmanager
def _as_attendance_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise AttendanceError(
            f"the record cannot be used: {exc}; is the disk full, or the file damaged?"
        ) from exc
