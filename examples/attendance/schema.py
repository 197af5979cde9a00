"""The tables of the record, and how a file of an earlier release is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from examples.attendance.errors import AttendanceError

__all__ = ["APPLICATION_ID", "SCHEMA", "migrate"]

APPLICATION_ID = 0x45464154
"""Marks the file as ours: "EFAT"."""

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE person (
  id TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  name TEXT NOT NULL,
  first_name TEXT NOT NULL,
  is_active INTEGER NOT NULL,
  pin_hash TEXT,
  created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  recorded_ms INTEGER NOT NULL,
  person_id TEXT,
  visit_id TEXT,
  camera TEXT NOT NULL,
  method TEXT,
  action TEXT,
  author TEXT NOT NULL,
  reason TEXT NOT NULL,
  arrived_ms INTEGER,
  departed_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX one_arrival_and_departure ON event (visit_id, kind)
  WHERE kind IN ('arrived', 'departed');
CREATE INDEX event_of_visit ON event (visit_id);
CREATE INDEX event_by_time ON event (kind, at_ms);
-- What the events make of each visit; can be computed anew from them.
CREATE TABLE visit (
  visit_id TEXT PRIMARY KEY,
  person_id TEXT NOT NULL,
  arrived_ms INTEGER NOT NULL,
  departed_ms INTEGER,
  camera TEXT NOT NULL,
  method TEXT NOT NULL,
  is_removed INTEGER NOT NULL,
  is_departure_set INTEGER NOT NULL
) STRICT;
CREATE INDEX visit_by_arrival ON visit (arrived_ms);
CREATE INDEX visit_of_person ON visit (person_id, arrived_ms);
-- Who is in, for the next run: written with every event and every few seconds.
CREATE TABLE presence (
  person_id TEXT PRIMARY KEY,
  visit_id TEXT NOT NULL,
  method TEXT NOT NULL,
  camera TEXT NOT NULL,
  arrived_ms INTEGER NOT NULL,
  seen_ms INTEGER NOT NULL,
  seen_by TEXT NOT NULL,
  away_s REAL NOT NULL,
  blind_s REAL NOT NULL
) STRICT;
CREATE TABLE leaving (person_id TEXT PRIMARY KEY, left_s REAL NOT NULL) STRICT;
CREATE TABLE heartbeat (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  boot_id TEXT NOT NULL,
  clock_s REAL NOT NULL,
  utc_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  event_id TEXT NOT NULL,
  UNIQUE (sink, event_id)
) STRICT;
-- erasing() exists only in connections of this program, and is 1 only while it forgets somebody or
-- deletes what is too old.
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event WHEN NOT erasing()
  BEGIN SELECT RAISE(ABORT, 'events are never changed; record a correction'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event WHEN NOT erasing()
  BEGIN SELECT RAISE(ABORT, 'events are never deleted; record a correction'); END;
-- A REPLACE deletes without a DELETE.
CREATE TRIGGER event_is_never_replaced BEFORE INSERT ON event WHEN EXISTS (
    SELECT 1 FROM event WHERE id = NEW.id OR seq = NEW.seq OR
    (visit_id = NEW.visit_id AND kind = NEW.kind AND kind IN ('arrived', 'departed')))
  BEGIN SELECT RAISE(ABORT, 'events are never replaced; record a correction'); END;
"""

SCHEMA: tuple[str, ...] = (_FIRST,)
"""What brings a file from each version to the next one; 0 is an empty file."""


def migrate(connection: sqlite3.Connection, scripts: Sequence[str] = SCHEMA) -> None:
    """Bring the file up to date, one version at a time, each whole or not at all.

    Raises:
        AttendanceError: It is another program's file, or of a later release.
    """
    application, version = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("application_id", "user_version")
    )
    has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    if has_tables and application != APPLICATION_ID:
        raise AttendanceError("the file of the record belongs to another program")
    if version > len(scripts):
        raise AttendanceError(
            f"the record has schema {version}, this release knows up to {len(scripts)}; "
            "install the release that wrote it, or a later one"
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {number}; COMMIT;"
        )
