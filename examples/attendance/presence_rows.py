"""Who is in, kept for the next run: seconds are relative to the heartbeat written with them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from examples.attendance.rules import OpenVisit, Presences, Restored
from examples.attendance.times import Clocks, Instant
from examples.attendance.values import Method

__all__ = ["BEAT_S", "last_recorded_ms", "read_presences", "write_presences"]

BEAT_S = 5.0
"""How often who is in is written; what was seen since the last time is lost in a crash."""


def write_presences(
    connection: sqlite3.Connection, presences: Presences, now: Instant, boot_id: str
) -> None:
    """Write who is in, in place of what was written before."""
    connection.execute("DELETE FROM presence")
    connection.execute("DELETE FROM leaving")
    connection.executemany(
        "INSERT INTO presence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                visit.person_id, visit.visit_id, visit.method.value, visit.camera,
                visit.arrived_ms, visit.seen.utc_ms, visit.seen_by,
                max(0.0, now.clock_s - visit.seen.clock_s),
                presences.blind_s(visit, now.clock_s),
            )
            for visit in presences.visits.values()
        ],
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO leaving VALUES (?, ?)",
        [(who, until - now.clock_s) for who, until in presences.leaving.items()],
    )
    connection.execute(
        "INSERT OR REPLACE INTO heartbeat VALUES (1, ?, ?, ?)", (boot_id, now.clock_s, now.utc_ms)
    )


def last_recorded_ms(connection: sqlite3.Connection) -> int | None:
    """Return the time of the last heartbeat, None before the first."""
    row = connection.execute("SELECT utc_ms FROM heartbeat").fetchone()
    return None if row is None else int(row[0])


def read_presences(
    connection: sqlite3.Connection, presences: Presences, now: Instant, clocks: Clocks
) -> Presences:
    """Return ``presences`` with what an earlier run wrote.

    The time between the runs is time in which nobody could be seen. Within one boot it is measured
    on the clock that never goes back; across boots only the wall clock can tell it.
    """
    down_s = _down_s(connection, now, clocks)
    if down_s is None:
        return presences
    found = []
    for row in connection.execute("SELECT * FROM presence ORDER BY arrived_ms, visit_id"):
        person_id, visit_id, method, camera, arrived_ms, seen_ms, seen_by, away_s, blind_s = row
        visit = OpenVisit(
            visit_id, person_id, Method(method), camera, arrived_ms,
            Instant(now.clock_s, seen_ms), seen_by,
        )  # fmt: skip
        # They may have been seen after the last heartbeat.
        away_s = max(0.0, away_s - BEAT_S)
        found.append(Restored(visit, away_s + down_s, blind_s + down_s))
    restored = presences.restored(tuple(found), now)
    return _with_leaving(connection, restored, now, down_s)


def _with_leaving(
    connection: sqlite3.Connection, presences: Presences, now: Instant, down_s: float
) -> Presences:
    rows = connection.execute("SELECT person_id, left_s FROM leaving").fetchall()
    leaving = {who: now.clock_s + left_s - down_s for who, left_s in rows}
    return replace(presences, leaving=leaving)


def _down_s(connection: sqlite3.Connection, now: Instant, clocks: Clocks) -> float | None:
    row = connection.execute("SELECT boot_id, clock_s, utc_ms FROM heartbeat").fetchone()
    if row is None:
        return None
    boot_id, clock_s, utc_ms = row
    if boot_id and boot_id == clocks.boot_id() and now.clock_s >= clock_s:
        return now.clock_s - float(clock_s)
    return max(0.0, (now.utc_ms - int(utc_ms)) / 1000.0)
