"""Day and month tables, and rows for a file, computed from visits: pure functions."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime

from examples.attendance.times import as_ms, as_utc, day_bounds_ms, day_of
from examples.attendance.values import (
    DayRow,
    DayTable,
    ExportRow,
    MonthRow,
    MonthTable,
    Person,
    Settings,
    VisitRow,
)

__all__ = ["day_table", "export_row", "month_table"]

_HOUR_S = 3600.0


def day_table(
    day: date,
    visits: Iterable[VisitRow],
    settings: Settings,
    now_utc: datetime,
    *,
    unknown_visitors: int | None,
) -> DayTable:
    """Return the table of a working day from the visits that began in it."""
    starts_ms, ends_ms = day_bounds_ms(day, settings)
    rows = [_day_row(own, now_utc) for own in _by_person(visits).values()]
    rows.sort(key=lambda row: row.first_arrived_utc)
    return DayTable(day, as_utc(starts_ms), as_utc(ends_ms), tuple(rows), unknown_visitors)


def month_table(
    year: int,
    month: int,
    visits: Iterable[VisitRow],
    people: Sequence[Person],
    settings: Settings,
    now_utc: datetime,
) -> MonthTable:
    """Return the table of a month from the visits that began in it."""
    numbers = {person.id: person.number for person in people}
    rows = [
        _month_row(person_id, own, settings, now_utc)
        for person_id, own in _by_person(visits).items()
    ]
    rows.sort(key=lambda row: (numbers.get(row.person_id, 0), row.person_id))
    return MonthTable(year, month, calendar.monthrange(year, month)[1], tuple(rows))


def export_row(
    visit: VisitRow, people: Mapping[str, Person], settings: Settings, now_utc: datetime
) -> ExportRow:
    """Return a visit as a row of a file, in local time."""
    person = people.get(visit.person_id)
    return ExportRow(
        day=day_of(as_ms(visit.arrived_utc), settings).isoformat(),
        number=person.number if person else 0,
        name=person.name if person else "",
        arrived=_local(visit.arrived_utc, settings),
        departed=_local(visit.departed_utc, settings) if visit.departed_utc else "",
        hours=round(visit.length_s(now_utc) / _HOUR_S, 4),
        method=visit.method.value,
        camera=visit.camera,
        corrections=len(visit.corrections),
        person_id=visit.person_id,
        visit_id=visit.visit_id,
    )


def _local(moment: datetime, settings: Settings) -> str:
    return moment.astimezone(settings.zone).isoformat(timespec="seconds")


def _by_person(visits: Iterable[VisitRow]) -> dict[str, list[VisitRow]]:
    found: dict[str, list[VisitRow]] = {}
    for visit in sorted(visits, key=lambda one: one.arrived_utc):
        if not visit.is_removed:
            found.setdefault(visit.person_id, []).append(visit)
    return found


def _day_row(visits: list[VisitRow], now_utc: datetime) -> DayRow:
    departures = [visit.departed_utc for visit in visits if visit.departed_utc is not None]
    is_in = len(departures) < len(visits)
    return DayRow(
        person_id=visits[0].person_id,
        visits=tuple(visits),
        first_arrived_utc=visits[0].arrived_utc,
        last_departed_utc=None if is_in else max(departures),
        total_s=sum(visit.length_s(now_utc) for visit in visits),
        is_in=is_in,
    )


def _month_row(
    person_id: str, visits: Iterable[VisitRow], settings: Settings, now_utc: datetime
) -> MonthRow:
    seconds: dict[int, float] = {}
    for visit in visits:
        day = day_of(as_ms(visit.arrived_utc), settings).day
        seconds[day] = seconds.get(day, 0.0) + visit.length_s(now_utc)
    return MonthRow(person_id, seconds, sum(seconds.values()), len(seconds))
