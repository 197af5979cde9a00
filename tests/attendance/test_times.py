"""Recorded time never goes back; working days follow the clock on the wall."""

from __future__ import annotations

from datetime import date, datetime, time, timezone

import pytest

from examples.attendance.errors import AttendanceError
from examples.attendance.interface import Settings
from examples.attendance.times import Timeline, as_ms, as_utc, day_bounds_ms, day_of
from tests.attendance.parts import START_MS, Clocks

HOUR_MS = 3_600_000


def test_recorded_time_follows_the_wall_clock() -> None:
    clocks = Clocks()
    timeline = Timeline(clocks)
    assert timeline.now().utc_ms == START_MS
    clocks.now_s += 90
    assert timeline.now().utc_ms == START_MS + 90_000
    assert timeline.ahead_ms == 0


def test_a_clock_that_is_set_back_slows_recorded_time_until_it_has_caught_up() -> None:
    clocks = Clocks()
    timeline = Timeline(clocks)
    timeline.now()
    clocks.start_ms -= HOUR_MS
    seen = []
    for _ in range(7300):
        clocks.now_s += 1
        seen.append(timeline.now().utc_ms)
    assert seen == sorted(seen)
    assert len(set(seen)) >= len(seen) - 1
    assert seen[0] == START_MS + 500
    assert seen[-1] == clocks.wall_ms()
    assert timeline.ahead_ms == 0


def test_a_clock_that_was_very_wrong_is_followed_at_once() -> None:
    clocks = Clocks()
    timeline = Timeline(clocks)
    timeline.now()
    clocks.start_ms -= 48 * HOUR_MS
    assert timeline.now().utc_ms == clocks.wall_ms()


def test_recorded_time_does_not_go_back_over_a_restart() -> None:
    clocks = Clocks()
    last = START_MS + 60_000
    assert Timeline(clocks, last).now().utc_ms == last


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("UTC", date(2026, 3, 29), 24),
    ],
)
def test_a_day_has_the_hours_that_daylight_saving_leaves_it(
    zone: str, day: date, hours: float
) -> None:
    starts, ends = day_bounds_ms(day, Settings(zone_name=zone))
    assert (ends - starts) / HOUR_MS == hours


@pytest.mark.parametrize("starts_at", [time(0), time(2, 30), time(5), time(23, 59)])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_every_moment_belongs_to_the_one_day_whose_bounds_hold_it(
    zone: str, starts_at: time
) -> None:
    settings = Settings(zone_name=zone, day_starts_at=starts_at)
    for start in (datetime(2026, 3, 7), datetime(2026, 10, 24), datetime(2026, 10, 31)):
        first = as_ms(start.replace(tzinfo=timezone.utc))
        for ms in range(first, first + 60 * HOUR_MS, 7 * 60_000):
            day = day_of(ms, settings)
            starts, ends = day_bounds_ms(day, settings)
            assert starts <= ms < ends


def test_a_night_shift_belongs_to_the_day_it_began() -> None:
    settings = Settings(zone_name="Europe/Berlin", day_starts_at=time(5))
    late = as_ms(datetime(2026, 6, 2, 2, 59, tzinfo=timezone.utc))  # 04:59 local
    assert day_of(late, settings) == date(2026, 6, 1)
    assert day_of(late + 60_000, settings) == date(2026, 6, 2)


def test_milliseconds_and_datetimes_are_the_same_moments() -> None:
    assert as_ms(as_utc(START_MS + 1)) == START_MS + 1
    with pytest.raises(ValueError, match="zone"):
        as_ms(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "values",
    [
        {"zone_name": "Mars/Base"},
        {"zone_name": "../../etc/passwd"},
        {"zone_name": ""},
        {"absence_s": float("nan")},
        {"absence_s": -1.0},
        {"retention_days": 0},
        {"language": "en; rm"},
        {"office_name": "a\nb"},
        {"day_starts_at": time(0, tzinfo=timezone.utc)},
    ],
)
def test_settings_that_cannot_be_used_are_refused(values: dict) -> None:
    with pytest.raises(AttendanceError):
        Settings(**values)
