"""The record: appended to, never changed, and whole after anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from examples.attendance.errors import AttendanceError
from examples.attendance.interface import CorrectionAction, Method
from examples.attendance.journal import Event, EventKind, replay
from examples.attendance.schema import SCHEMA
from examples.attendance.store import Store

ARRIVAL = Event("e1", EventKind.ARRIVED, 1000, 1001, "ann", "v1", "door", Method.FACE)
DEPARTURE = replace(ARRIVAL, id="e2", kind=EventKind.DEPARTED, at_ms=9000)
MOVED = Event(
    "e3", EventKind.CORRECTION, 500, 9500, "ann", "v1", action=CorrectionAction.MOVE,
    author="boss", reason="camera was late", arrived_ms=500,
)  # fmt: skip


def append(store: Store, *events: Event) -> None:
    with store.writing() as connection:
        for event in events:
            store.append(connection, event, ["a", "b"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "record.db")
    yield opened
    opened.close()


def test_events_come_back_as_they_were_written(store: Store) -> None:
    append(store, ARRIVAL, DEPARTURE, MOVED)
    assert store.events() == [ARRIVAL, DEPARTURE, MOVED]
    visit = store.visit("v1")
    assert visit is not None
    assert (visit.arrived_ms, visit.departed_ms) == (500, 9000)
    assert replay(store.events()) == {"v1": visit}


def test_every_event_is_noted_for_every_sink(store: Store) -> None:
    append(store, ARRIVAL)
    with store.reading() as connection:
        rows = connection.execute("SELECT sink, event_id FROM outbox").fetchall()
    assert rows == [("a", "e1"), ("b", "e1")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET at_ms = 0",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT * FROM event",
    ],
)
def test_events_are_changed_by_nobody(store: Store, statement: str) -> None:
    append(store, ARRIVAL)
    with pytest.raises(AttendanceError, match="never"), store.writing() as connection:
        connection.execute(statement)
    other = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.Error):  # another program lacks the function that could allow it
        other.execute(statement)
    other.close()
    assert store.events() == [ARRIVAL]


def test_a_visit_has_one_arrival_and_one_departure(store: Store) -> None:
    append(store, ARRIVAL, DEPARTURE)
    for event in (replace(ARRIVAL, id="x1"), replace(DEPARTURE, id="x2"), ARRIVAL):
        with pytest.raises(AttendanceError):
            append(store, event)
    assert store.events() == [ARRIVAL, DEPARTURE]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(AttendanceError):
        append(store, ARRIVAL, ARRIVAL)
    assert store.events() == []
    assert store.visits("1") == []


def test_a_departure_without_arrival_is_refused(store: Store) -> None:
    with pytest.raises(AttendanceError, match="follow"):
        append(store, DEPARTURE)


def test_a_corrected_departure_stays_when_the_real_one_comes(store: Store) -> None:
    correction = replace(MOVED, arrived_ms=None, departed_ms=4000)
    append(store, ARRIVAL, correction, DEPARTURE)
    visit = store.visit("v1")
    assert visit is not None
    assert visit.departed_ms == 4000


def test_the_file_is_for_its_owner_alone(store: Store) -> None:
    append(store, ARRIVAL)
    for file in store.path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_an_older_schema_is_brought_up_to_date_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    store = Store.open(path)
    append(store, ARRIVAL)
    store.close()
    later = (*SCHEMA, "ALTER TABLE person ADD COLUMN badge TEXT")
    store = Store.open(path, scripts=later)
    with store.reading() as connection:
        assert connection.execute("SELECT badge FROM person").fetchall() == []
    assert store.events() == [ARRIVAL]
    store.close()
    with pytest.raises(AttendanceError, match="schema 2"):
        Store.open(path)


def test_a_step_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    Store.open(path).close()
    broken = (*SCHEMA, "ALTER TABLE person ADD COLUMN badge TEXT; SELECT nonsense()")
    with pytest.raises(AttendanceError):
        Store.open(path, scripts=broken)
    store = Store.open(path)
    with store.reading() as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(person)")]
    assert "badge" not in names
    store.close()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_file_that_is_no_record_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.db"
    path.write_bytes(content)
    with pytest.raises(AttendanceError):
        Store.open(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(AttendanceError, match="another program"):
        Store.open(path)
