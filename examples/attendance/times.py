"""Time for attendance: one clock that never goes back, recorded UTC, and working days."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from examples.attendance.values import Settings

__all__ = [
    "Clocks",
    "Instant",
    "SystemClocks",
    "Timeline",
    "as_ms",
    "as_utc",
    "day_bounds_ms",
    "day_of",
]

_LONGEST_SLEW_MS = 2 * 3600 * 1000
"""A wall clock set back by more than this was very wrong before: it is followed at once."""
_SLEW = 0.5
"""Recorded time runs at this speed until a wall clock that was set back has caught up."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment: ``clock_s`` never goes back within one boot, ``utc_ms`` is the recorded time."""

    clock_s: float
    utc_ms: int


class Clocks(Protocol):
    """The seam to the clocks of the machine."""

    def clock_s(self) -> float:
        """Return seconds on a clock that never goes back and runs on while the machine sleeps."""
        ...

    def wall_ms(self) -> int:
        """Return the wall clock's UTC in milliseconds since 1970; it may jump."""
        ...

    def boot_id(self) -> str:
        """Return a word that changes when ``clock_s`` starts anew; "" when that is not known."""
        ...


class SystemClocks:
    """The clocks of this machine."""

    def clock_s(self) -> float:
        """Return seconds since boot where the system says so, else of the monotonic clock."""
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot is None else time.clock_gettime(boot)

    def wall_ms(self) -> int:
        """Return the wall clock."""
        return time.time_ns() // 1_000_000

    def boot_id(self) -> str:
        """Return the kernel's word for this boot."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return ""


class Timeline:
    """Recorded time: follows the wall clock, and never goes back when that is set back.

    After a step back of up to two hours it runs at half speed until the wall clock has caught up,
    so that times stay in the order in which things happened. ``ahead_ms`` says by how much.
    """

    def __init__(self, clocks: Clocks, last_ms: int | None = None) -> None:
        self._clocks = clocks
        self._last = None if last_ms is None else Instant(clocks.clock_s(), last_ms)
        self.ahead_ms = 0

    def now(self) -> Instant:
        """Return this moment."""
        clock_s, wall_ms = self._clocks.clock_s(), self._clocks.wall_ms()
        utc_ms = wall_ms
        if self._last is not None and 0 < self._last.utc_ms - wall_ms <= _LONGEST_SLEW_MS:
            passed_s = max(0.0, clock_s - self._last.clock_s)
            utc_ms = self._last.utc_ms + int(1000 * _SLEW * passed_s)
        if self._last is None or utc_ms != self._last.utc_ms:
            self._last = Instant(clock_s, utc_ms)
        self.ahead_ms = utc_ms - wall_ms
        return Instant(clock_s, utc_ms)


def as_utc(ms: int) -> datetime:
    """Return milliseconds since 1970 as an aware datetime in UTC."""
    return datetime.fromtimestamp(0, timezone.utc) + timedelta(milliseconds=ms)


def as_ms(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970.

    Raises:
        ValueError: It has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone says no moment; give an aware datetime")
    return round((moment - datetime.fromtimestamp(0, timezone.utc)) / timedelta(milliseconds=1))


def day_of(ms: int, settings: Settings) -> date:
    """Return the working day that a moment belongs to."""
    day = as_utc(ms).astimezone(settings.zone).date()
    # By the bounds, not by the local time: in autumn that time of day comes twice.
    if ms < day_bounds_ms(day, settings)[0]:
        return day - timedelta(days=1)
    return day


def day_bounds_ms(day: date, settings: Settings) -> tuple[int, int]:
    """Return when a working day begins and ends: 23, 24 or 25 hours apart."""
    starts = (
        datetime.combine(one, settings.day_starts_at, settings.zone)
        for one in (day, day + timedelta(days=1))
    )
    first, last = (as_ms(moment.astimezone(timezone.utc)) for moment in starts)
    return first, last
