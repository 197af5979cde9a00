"""What the record says about days, months and people."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from examples.attendance.errors import AttendanceError
from examples.attendance.journal import StoredVisit, visit_row
from examples.attendance.people import People
from examples.attendance.store import Store
from examples.attendance.tables import day_table, export_row, month_table
from examples.attendance.times import Instant, as_utc, day_bounds_ms
from examples.attendance.values import (
    DayTable,
    ExportRow,
    MonthTable,
    Person,
    Settings,
    VisitRow,
)

__all__ = ["Reports"]

_LONGEST_RANGE_DAYS = 3700


class Reports:
    """Tables and exports, made when asked for."""

    def __init__(
        self,
        store: Store,
        people: People,
        settings: Callable[[], Settings],
        now: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._people = people
        self._settings = settings
        self._now = now

    def day(self, day: date) -> DayTable:
        """Return a working day."""
        settings = self._settings()
        starts_ms, ends_ms = day_bounds_ms(day, settings)
        unknown = None
        if settings.count_unknown:
            unknown = self._count_unknown(starts_ms, ends_ms)
        now_utc = as_utc(self._now().utc_ms)
        visits = self.visits(day, day)
        return day_table(day, visits, settings, now_utc, unknown_visitors=unknown)

    def month(self, year: int, month: int) -> MonthTable:
        """Return a month of working days."""
        if not (1 <= month <= 12 and 1970 <= year <= 9998):
            raise AttendanceError(f"there is no month {month} of {year}")
        first = date(year, month, 1)
        last = first.replace(day=calendar.monthrange(year, month)[1])
        people = self._people.everybody(with_inactive=True)
        now_utc = as_utc(self._now().utc_ms)
        visits = self.visits(first, last)
        return month_table(year, month, visits, people, self._settings(), now_utc)

    def visits(
        self, first: date, last: date, *, person_id: str | None = None, with_removed: bool = False
    ) -> tuple[VisitRow, ...]:
        """Return the visits of the working days from ``first`` to ``last``, both included."""
        if last < first or (last - first).days > _LONGEST_RANGE_DAYS:
            raise AttendanceError("the last day must not be before the first, nor ten years after")
        settings = self._settings()
        starts_ms, ends_ms = day_bounds_ms(first, settings)[0], day_bounds_ms(last, settings)[1]
        where = "arrived_ms >= ? AND arrived_ms < ? AND (? OR NOT is_removed)"
        values: list[Any] = [starts_ms, ends_ms, with_removed]
        if person_id is not None:
            where, values = where + " AND person_id = ?", [*values, person_id]
        return self.rows(self._store.visits(where, values))

    def rows(self, visits: Sequence[StoredVisit]) -> tuple[VisitRow, ...]:
        """Return visits with their corrections."""
        corrections = self._store.corrections([visit.visit_id for visit in visits])
        return tuple(visit_row(visit, corrections[visit.visit_id]) for visit in visits)

    def export_rows(self, first: date, last: date) -> tuple[ExportRow, ...]:
        """Return the visits of some working days for a file."""
        people = {one.id: one for one in self._people.everybody(with_inactive=True)}
        settings, now_utc = self._settings(), as_utc(self._now().utc_ms)
        return tuple(
            export_row(visit, people, settings, now_utc) for visit in self.visits(first, last)
        )

    def of_person(self, person: Person) -> Mapping[str, object]:
        """Return the row, the visits and every event of a person, for JSON."""
        visits = self._store.visits("person_id = ?", (person.id,))
        events = self._store.events("person_id = ?", (person.id,))
        return {
            "person": {
                "id": person.id,
                "number": person.number,
                "name": person.name,
                "first_name": person.first_name,
                "is_active": person.is_active,
                "has_pin": person.has_pin,
                "created_utc": str(person.created_utc),
            },
            "visits": [asdict(visit) for visit in visits],
            "events": [asdict(event) for event in events],
        }

    def _count_unknown(self, starts_ms: int, ends_ms: int) -> int:
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT count(*) FROM event WHERE kind = 'unknown' AND at_ms >= ? AND at_ms < ?",
                (starts_ms, ends_ms),
            ).fetchone()
        return int(row[0])
