"""Who may be in: the one table with names."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from edgeface.gallery import Consent
from examples.attendance.checks import clean_name
from examples.attendance.errors import AttendanceError
from examples.attendance.rules import new_id
from examples.attendance.store import Store
from examples.attendance.times import as_utc
from examples.attendance.values import Person

__all__ = ["People"]

_COLUMNS = "id, number, name, first_name, is_active, pin_hash, created_ms"


class People:
    """The table of people. ``consents`` gives the consent of everybody who has a face enrolled."""

    def __init__(self, store: Store, consents: Callable[[], dict[str, Consent | None]]) -> None:
        self._store = store
        self._consents = consents

    def everybody(self, *, with_inactive: bool = False) -> tuple[Person, ...]:
        """Return everybody, in order of name."""
        rows = self._rows("is_active OR ?", (with_inactive,))
        consents = self._consents()
        people = [_person(row, consents) for row in rows]
        return tuple(sorted(people, key=lambda one: (one.name.casefold(), one.number)))

    def get(self, person_id: str) -> Person:
        """Return one person.

        Raises:
            AttendanceError: There is none of that id.
        """
        rows = self._rows("id = ?", (person_id,))
        if not rows:
            raise AttendanceError("there is no person of that id; they may have been forgotten")
        return _person(rows[0], self._consents())

    @property
    def last_number(self) -> int:
        """The highest number that was ever given."""
        return int(self._store.meta("last_number") or 0)

    def labels(self) -> dict[str, tuple[int, str]]:
        """Return the number and the name of everybody, by id."""
        return {row[0]: (row[1], row[2]) for row in self._rows("1", ())}

    def label(self, person_id: str) -> tuple[int, str] | None:
        """Return the number and the name of one person, None where there is none of that id."""
        rows = self._rows("id = ?", (person_id,))
        return (rows[0][1], rows[0][2]) if rows else None

    def of_number(self, number: str) -> tuple[str, str | None] | None:
        """Return the id and the hash of the PIN of the active person of a number."""
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            return None
        rows = self._rows("number = ? AND is_active", (int(number),))
        return (rows[0][0], rows[0][5]) if rows else None

    def add(self, name: str, first_name: str, now_ms: int) -> Person:
        """Add somebody, with the next number.

        Numbers of people who were forgotten are not given again: files that left the office may
        still hold them.
        """
        name = clean_name(name)
        first_name = clean_name(first_name or name.split()[0])
        person_id = new_id()
        with self._store.writing() as connection:
            number = self.last_number + 1
            self._store.set_meta(connection, "last_number", str(number))
            connection.execute(
                f"INSERT INTO person ({_COLUMNS}) VALUES (?, ?, ?, ?, 1, NULL, ?)",
                (person_id, number, name, first_name, now_ms),
            )
        return self.get(person_id)

    def change(self, person_id: str, name: str, first_name: str, *, is_active: bool) -> Person:
        """Change a person."""
        self.get(person_id)
        name = clean_name(name)
        first_name = clean_name(first_name or name.split()[0])
        self._set(
            "UPDATE person SET name = ?, first_name = ?, is_active = ? WHERE id = ?",
            (name, first_name, is_active, person_id),
        )
        return self.get(person_id)

    def set_pin_hash(self, person_id: str, pin_hash: str | None) -> None:
        """Keep the hash of a PIN, or none."""
        self.get(person_id)
        self._set("UPDATE person SET pin_hash = ? WHERE id = ?", (pin_hash, person_id))

    def remove(self, connection: sqlite3.Connection, person_id: str) -> None:
        """Delete a person's row within a transaction."""
        connection.execute("DELETE FROM person WHERE id = ?", (person_id,))

    def _set(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._store.writing() as connection:
            connection.execute(statement, values)

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[Any]:
        with self._store.reading() as connection:
            return connection.execute(
                f"SELECT {_COLUMNS} FROM person WHERE {where}", values
            ).fetchall()


def _person(row: Any, consents: dict[str, Consent | None]) -> Person:
    return Person(
        id=row[0],
        number=row[1],
        name=row[2],
        first_name=row[3],
        is_active=bool(row[4]),
        has_pin=row[5] is not None,
        has_face=row[0] in consents,
        created_utc=as_utc(row[6]),
        consent=consents.get(row[0]),
    )
