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

__all__ = ["EARLIEST", "DoorClocks", "WallWatch", "boot_id", "utc_now"]

EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No clock that shows an earlier time is believed: this release did not exist."""

# A clock that no note was kept of may be this far ahead of EARLIEST; one with a note, this far
# ahead of the note: longer holidays need somebody to say that the clock is right.
_MAX_FIRST = timedelta(days=20 * 365)
_MAX_OFF = timedelta(days=366)
# The two clocks of a machine drift apart by less than a second a day; NTP corrects slowly below
# 128 ms and steps above. 60 s leaves room for suspended machines' rounding, and for no schedule.
_MAX_STEP_S = 60.0
_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


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

    ``monotonic`` must be the clock of the frames' times.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = utc_now
    boot: str = field(default_factory=boot_id)


class WallWatch:
    """Tells whether the time of day is to be believed; nothing but schedules and TOTP rests on it.

    It is not when it lies before this release, before or more than a year after the last time
    that was noted, or when it went its own way from the monotonic clock. After a step it stays
    in doubt until :meth:`trust` is called: by whoever set the clock, or once NTP says so.

    Args:
        clocks: The clocks of the door.
        noted: The last time that was noted in an earlier run; None without one.
    """

    def __init__(self, clocks: DoorClocks, *, noted: datetime | None = None) -> None:
        self._wall, self._clock = clocks.wall, clocks.monotonic
        self._doubt = ""
        self._start, self._start_s = self._wall(), self._clock()
        self._floor = max(EARLIEST, noted) if noted is not None else EARLIEST
        self._ceiling = noted + _MAX_OFF if noted is not None else EARLIEST + _MAX_FIRST
        # A note is at most this much ahead of a clock that was corrected slowly since.
        self._floor -= timedelta(seconds=_MAX_STEP_S)

    def read(self) -> WallTime:
        """Return the time of day, and why it is not to be believed."""
        now, now_s = self._wall(), self._clock()
        if now.tzinfo is None or not math.isfinite(now_s):
            self._doubt = "the clock gives no usable time"
        elif not self._floor <= now:
            self._doubt = "the clock lies in the past"
        elif not now <= self._ceiling + timedelta(seconds=max(0.0, now_s - self._start_s)):
            self._doubt = "the clock is more than a year ahead"
        elif abs((now - self._start).total_seconds() - (now_s - self._start_s)) > _MAX_STEP_S:
            self._doubt = "the clock was set"
        return WallTime(now, self._doubt)

    def trust(self) -> WallTime:
        """Take the time of day for right from now on, and return it.

        A time before this release is not believed even so.
        """
        self._start, self._start_s, self._doubt = self._wall(), self._clock(), ""
        self._floor = EARLIEST
        self._ceiling = self._start + _MAX_OFF
        return self.read()
