"""Deleting for good: a person who is forgotten, and what is older than the retention."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from examples.attendance.errors import AttendanceError
from examples.attendance.people import People
from examples.attendance.store import Store
from examples.attendance.values import Person

__all__ = ["delete_old", "delete_person", "files_with", "finish_erasing", "needles_of"]

_REDACTED = "[forgotten]"
_PENDING = "erasing_pending"
# Fewer bytes than this occur by chance in a file of random bytes.
_LEAST_NEEDLE_BYTES = 6
_OLD_VISITS = "departed_ms IS NOT NULL AND max(arrived_ms, departed_ms) < ?"


def delete_person(store: Store, people: People, person: Person) -> tuple[int, int]:
    """Delete a person's row, events and visits; return how many events, and texts redacted.

    The file is written anew afterwards, so that no page of it holds what was deleted.

    Raises:
        AttendanceError: It is deleted, but another program reads the file; opening it again
            finishes it.
    """
    with store.erasing() as connection:
        _delete_events(connection, "person_id = ?", person.id)
        events = connection.execute("SELECT changes()").fetchone()[0]
        for table in ("visit", "presence", "leaving"):
            connection.execute(f"DELETE FROM {table} WHERE person_id = ?", (person.id,))
        people.remove(connection, person.id)
        texts = _redact(connection, person.name)
        store.set_meta(connection, _PENDING, "1")
    finish_erasing(store)
    return int(events), texts


def delete_old(store: Store, before_ms: int) -> int:
    """Delete visits that ended before ``before_ms`` with their events; return how many events."""
    with store.erasing() as connection:
        counted = connection.total_changes
        old = f"SELECT visit_id FROM visit WHERE {_OLD_VISITS}"
        _delete_events(connection, f"visit_id IN ({old})", before_ms)
        _delete_events(connection, "visit_id IS NULL AND at_ms < ?", before_ms)
        deleted = connection.total_changes - counted
        connection.execute(f"DELETE FROM visit WHERE {_OLD_VISITS}", (before_ms,))
        if deleted:
            store.set_meta(connection, _PENDING, "1")
    finish_erasing(store)
    return deleted


def finish_erasing(store: Store) -> None:
    """Write the file anew if something was deleted since that was done last.

    Raises:
        AttendanceError: Another program reads the file.
    """
    if store.meta(_PENDING) is None:
        return
    store.shred()
    with store.writing() as connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (_PENDING,))


def needles_of(name: str) -> tuple[bytes, ...]:
    """Return the forms in which a file may hold ``name``; none for a name that is too short."""
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    needles = {form.encode(code) for form in forms for code in ("utf-8", "utf-16-le")}
    return tuple(needle for needle in needles if len(needle) >= _LEAST_NEEDLE_BYTES)


def files_with(needles: Sequence[bytes], files: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Return the names of the files that hold a needle, and of all that were searched."""
    found, searched = [], []
    for file in sorted(files):
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise AttendanceError(f"{file.name} cannot be searched: {exc}") from exc
        searched.append(file.name)
        if any(needle in content for needle in needles):
            found.append(file.name)
    return found, searched


def _delete_events(connection: sqlite3.Connection, where: str, value: str | int) -> None:
    connection.execute(
        f"DELETE FROM outbox WHERE event_id IN (SELECT id FROM event WHERE {where})", (value,)
    )
    connection.execute(f"DELETE FROM event WHERE {where}", (value,))


def _redact(connection: sqlite3.Connection, name: str) -> int:
    """Take a name out of what people wrote about others; return in how many events."""
    pattern = re.compile(re.escape(name), re.IGNORECASE)
    rows = connection.execute(
        "SELECT seq, author, reason FROM event WHERE reason <> '' OR author <> ''"
    ).fetchall()
    count = 0
    for seq, *texts in rows:
        clean = [pattern.sub(_REDACTED, text) for text in texts]
        if clean != texts:
            count += 1
            connection.execute(
                "UPDATE event SET author = ?, reason = ? WHERE seq = ?", (*clean, seq)
            )
    return count
