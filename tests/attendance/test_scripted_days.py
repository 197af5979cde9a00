"""Counted events equal the script, whatever happens to cameras, clocks and the program."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pytest

from examples.attendance.interface import VisitRow
from examples.attendance.journal import Event, EventKind, replay, visit_row
from examples.attendance.tables import day_table
from examples.attendance.times import as_utc, day_of
from tests.attendance.scripted_day import LOOK_S, Day, Stay, random_day
from tests.attendance.simulation import TICK_S, run_day

QUICK_DAYS = 4
DAYS = 50


def by_person(events: list[Event]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for event in events:
        assert event.person_id is not None
        found[event.person_id].append(event.kind.value)
    return dict(found)


def expected(day: Day) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for stay in day.stays:
        found[stay.person] += ["arrived", "departed"]
    return dict(found)


def check(day: Day, events: list[Event]) -> None:
    assert by_person(events) == expected(day)
    assert len({event.id for event in events}) == len(events)
    visits = [visit_row(visit, ()) for visit in replay(events).values()]
    pairs = list(zip_by_person(day, visits))
    assert len(pairs) == len(day.stays)
    assert all(visit.departed_utc and visit.departed_utc >= visit.arrived_utc for _, visit in pairs)
    if not day.clock_steps:
        for stay, visit in pairs:
            check_times(day, stay, visit)
        check_tables(day, pairs)
    steps_back = [by for _, by in day.clock_steps if by < -7200]
    recorded = [event.recorded_ms for event in events]
    assert recorded == sorted(recorded) or steps_back


def zip_by_person(day: Day, visits: list[VisitRow]) -> list[tuple[Stay, VisitRow]]:
    pairs = []
    for person in {stay.person for stay in day.stays}:
        stays = [stay for stay in day.stays if stay.person == person]
        own = [visit for visit in visits if visit.person_id == person]
        pairs += list(zip(stays, own, strict=True))
    return pairs


def check_times(day: Day, stay: Stay, visit: VisitRow) -> None:
    """A visit has the times of the stay, but for looks that came late or were hidden."""
    assert visit.departed_utc is not None
    starts, ends = (
        (moment.timestamp() - day.start_ms / 1000)
        for moment in (visit.arrived_utc, visit.departed_utc)
    )
    hidden = list(day.outages)
    late = max([o.ends_s for o in hidden if o.starts_s <= stay.starts_s + LOOK_S], default=0.0)
    early = min([o.starts_s for o in hidden if o.ends_s >= stay.ends_s - LOOK_S], default=1e9)
    slack = LOOK_S + 2 * TICK_S + 5
    assert stay.starts_s - 0.1 <= starts <= max(stay.starts_s, late) + 2 * slack
    assert min(stay.ends_s, early) - 2 * slack <= ends <= stay.ends_s + 0.1


def check_tables(day: Day, pairs: list[tuple[Stay, VisitRow]]) -> None:
    """Every visit is in the table of one day, the one that a calendar on the wall says."""
    found: dict[str, list[str]] = defaultdict(list)
    first = day_of(day.start_ms, day.settings)
    visits = [visit for _, visit in pairs]
    for offset in range(3):
        one = first + timedelta(days=offset)
        own = [
            v for v in visits if day_of(int(v.arrived_utc.timestamp() * 1000), day.settings) == one
        ]
        table = day_table(one, own, day.settings, as_utc(day.start_ms), unknown_visitors=None)
        assert all(table.starts_utc <= v.arrived_utc < table.ends_utc for v in own)
        found[one.isoformat()] = sorted(v.visit_id for row in table.rows for v in row.visits)
    wanted: dict[str, list[str]] = defaultdict(list)
    for stay, visit in pairs:
        began = (
            stay
            if stay.by_pin
            else Stay(stay.person, visit.arrived_utc.timestamp() - day.start_ms / 1000, stay.ends_s)
        )
        wanted[day.expected_days(began)].append(visit.visit_id)
    assert {k: v for k, v in found.items() if v} == {k: sorted(v) for k, v in wanted.items()}
    assert all(date.fromisoformat(k) for k in wanted)


@pytest.mark.parametrize("seed", range(QUICK_DAYS))
def test_counted_events_equal_the_script(seed: int, tmp_path: Path) -> None:
    day = random_day(seed)
    check(day, run_day(day, tmp_path, seed))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_counted_events_equal_the_script_on_fifty_days_in_a_row(tmp_path: Path) -> None:
    stays = outages = 0
    for seed in range(1000, 1000 + DAYS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        day = random_day(seed)
        check(day, run_day(day, folder, seed))
        stays, outages = stays + len(day.stays), outages + len(day.outages)
    assert stays > 10 * DAYS
    assert outages > 2 * DAYS


def test_a_script_with_one_sighting_too_many_is_not_equal(tmp_path: Path) -> None:
    day = random_day(0)
    events = run_day(day, tmp_path, 0)
    extra = next(event for event in events if event.kind is EventKind.ARRIVED)
    with pytest.raises(AssertionError):
        check(day, [*events, extra])
