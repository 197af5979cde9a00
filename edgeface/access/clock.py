"""Times: which run of which machine this is, and whether the time of day is to be believed."""

from __future__ import annotations

import functools
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgeface.access.values import WallTime

__all__ = ["EARLIEST", "DoorClocks", "SleepWatch", "WallWatch", "boot_id", "uptime_s", "utc_now"]

EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No clock that shows an earlier time is believed: this release did not exist."""

# A clock that no note was kept of may be this far ahead of EARLIEST.
_MAX_FIRST = timedelta(days=20 * 365)
# How long a machine may be off in all, over any number of starts, before somebody must say again
# that its clock is right: a year. The time that it runs is counted by its own clock.
_MAX_OFF = timedelta(days=366)
# The two clocks of a machine drift apart by less than a second a day; NTP corrects slowly below
# 128 ms and steps above. 60 s leaves room for rounding, and for no schedule.
_MAX_STEP_S = 60.0
# The two clocks are read one after the other; no machine falls asleep and wakes in less.
_MAX_NAP_S = 0.1
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


def uptime_s() -> float:
    """Return the seconds since the machine started, those included in which it slept.

    Linux stops its monotonic clock while the machine is suspended, so that nothing seems to grow
    old. Where the system has no such clock it is the monotonic one.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@functools.cache
def boot_id() -> str:
    """Return what names this run of this machine: all processes share it until the next start.

    Where the system gives none, it names this process: every start then counts as a new run,
    which never shortens a wait.
    """
    try:
        text = _BOOT_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return text or f"process-{secrets.token_hex(16)}"


def utc_now() -> datetime:
    """Return the time of day, aware, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorClocks:
    """The clocks of a door: ``monotonic`` in seconds, ``wall`` aware, ``boot`` the name of the run.

    ``monotonic`` must be the clock of the frames' times. ``uptime`` goes on while the machine
    sleeps, and must be that of the lock's verifier where both are of one machine; None stands for
    :func:`uptime_s`, or for ``monotonic`` where that is not the system's.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = utc_now
    boot: str = field(default_factory=boot_id)
    uptime: Callable[[], float] | None = None

    @property
    def with_sleep(self) -> Callable[[], float]:
        """The clock that goes on while the machine sleeps."""
        if self.uptime is not None:
            return self.uptime
        return uptime_s if self.monotonic is time.monotonic else self.monotonic


class SleepWatch:
    """Tells whether the machine slept: the one clock went on, the other stood still."""

    def __init__(self, clocks: DoorClocks) -> None:
        self._uptime, self._clock = clocks.with_sleep, clocks.monotonic
        self._apart_s = self._uptime() - self._clock()

    def has_slept(self) -> bool:
        """Return whether it slept since this was last true; also where a clock gives no time."""
        apart_s = self._uptime() - self._clock()
        # False for NaN.
        if abs(apart_s - self._apart_s) <= _MAX_NAP_S:
            return False
        self._apart_s = apart_s
        return True


class WallWatch:
    """Tells whether the time of day is to be believed; nothing but schedules and TOTP rests on it.

    It is not when it lies before this release, before the last time that was noted, beyond
    :attr:`ceiling`, or when it went its own way from the machine's own clock. After a step it
    stays in doubt until :meth:`trust` is called: by whoever set the clock, or once NTP says so.

    Args:
        clocks: The clocks of the door.
        noted: The last time that was noted in an earlier run; None without one.
        ceiling: The last time that is believed, as kept with the note; None without one.
    """

    def __init__(
        self,
        clocks: DoorClocks,
        *,
        noted: datetime | None = None,
        ceiling: datetime | None = None,
    ) -> None:
        self._wall, self._clock = clocks.wall, clocks.with_sleep
        self._doubt = ""
        self._start, self._start_s = self._wall(), self._clock()
        self._floor = max(EARLIEST, noted) if noted is not None else EARLIEST
        if ceiling is None:
            ceiling = EARLIEST + _MAX_FIRST if noted is None else _later(noted, _MAX_OFF)
        self._ceiling = ceiling
        self._is_first = noted is None
        # A note is at most this much ahead of a clock that was corrected slowly since.
        self._floor -= timedelta(seconds=_MAX_STEP_S)

    @property
    def ceiling(self) -> datetime:
        """The last time that is believed, to be kept with a note.

        It moves with the machine's own clock alone: whoever sets the clock forward at every start
        gets no further than once, until :meth:`trust`.
        """
        first = _later(self._start, _MAX_OFF) if self._is_first else self._ceiling
        return _later(first, self._passed())

    def read(self) -> WallTime:
        """Return the time of day, and why it is not to be believed."""
        now, now_s = self._wall(), self._clock()
        if now.tzinfo is None or not math.isfinite(now_s):
            self._doubt = "the clock gives no usable time"
        elif not self._floor <= now:
            self._doubt = "the clock lies in the past"
        elif not now <= _later(self._ceiling, self._passed()):
            self._doubt = "the clock is more than a year ahead"
        elif abs((now - self._start).total_seconds() - (now_s - self._start_s)) > _MAX_STEP_S:
            self._doubt = "the clock was set"
        return WallTime(now, self._doubt)

    def trust(self) -> WallTime:
        """Take the time of day for right from now on, and return it.

        A time before this release is not believed even so.
        """
        self._start, self._start_s, self._doubt = self._wall(), self._clock(), ""
        self._floor, self._is_first = EARLIEST, False
        self._ceiling = _later(self._start, _MAX_OFF)
        return self.read()

    def _passed(self) -> timedelta:
        passed_s = self._clock() - self._start_s
        # A clock that gives no time moves nothing.
        return timedelta(seconds=passed_s if 0.0 <= passed_s < 1e10 else 0.0)


def _later(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)
