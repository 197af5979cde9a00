"""When a permit holds: days of the week and times of day in the door's time zone."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from edgeface.errors import AccessPolicyError

__all__ = ["DAYS", "Schedule"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Times at which a permit holds.

    From ``start`` up to, but not including, ``end``, "HH:MM" on the door's clock, on ``days``; an
    ``end`` of "24:00" is midnight. An ``end`` before ``start`` is on the next morning, and belongs
    to the day on which it began. ``closed_on`` are days without any, as "YYYY-MM-DD".
    """

    name: str
    days: tuple[str, ...] = DAYS
    start: str = "00:00"
    end: str = "24:00"
    closed_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= len(self.name) <= 64 and self.name.isprintable()):
            raise AccessPolicyError(
                f"a schedule's name must have 1 to 64 characters, got {self.name[:80]!r}"
            )
        wrong = set(self.days) - set(DAYS)
        if wrong or not self.days:
            raise AccessPolicyError(
                f"the days of a schedule are {', '.join(DAYS)}, got {', '.join(self.days) or '-'}"
            )
        if minutes(self.start) == _DAY_MINUTES:
            raise AccessPolicyError(
                f"the schedule {self.name!r} starts at 24:00, which no day has; write 00:00 and "
                "the next day"
            )
        if minutes(self.start) == minutes(self.end):
            raise AccessPolicyError(
                f"the schedule {self.name!r} ends when it starts, at {self.start}; write 00:00 to "
                "24:00 for the whole day"
            )
        wrong_days = [text for text in self.closed_on if not _is_day(text)]
        if wrong_days:
            raise AccessPolicyError(f"closed_on must be YYYY-MM-DD, got {wrong_days[0][:20]!r}")

    @classmethod
    def always(cls) -> Schedule:
        """Return the schedule that holds at any time, whatever the clock says."""
        return cls(name="always")

    @property
    def needs_clock(self) -> bool:
        """Whether the time of day matters at all."""
        whole = self.start == "00:00" and self.end == "24:00"
        return not (whole and set(self.days) == set(DAYS) and not self.closed_on)

    def holds_at(self, moment: datetime, time_zone: str) -> bool:
        """Return whether the schedule holds at ``moment``, an aware time.

        Where a clock is put forward or back, what the door's clock shows counts: the hour that
        comes twice holds twice.
        """
        local = moment.astimezone(zoneinfo.ZoneInfo(time_zone))
        now, start, end = local.hour * 60 + local.minute, minutes(self.start), minutes(self.end)
        if start < end:
            return self._is_on(local.date()) and start <= now < end
        if now >= start:
            return self._is_on(local.date())
        return now < end and self._is_on(local.date() - timedelta(days=1))

    def _is_on(self, day: date) -> bool:
        return DAYS[day.weekday()] in self.days and day.isoformat() not in self.closed_on

    @staticmethod
    def check_zone(name: str) -> None:
        """Return if ``name`` is a time zone that this machine knows.

        Raises:
            AccessPolicyError: It is not, or the machine has no time zones.
        """
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
            raise AccessPolicyError(
                f"the time zone {name[:80]!r} is not known here; wanted an IANA name such as "
                "Europe/Berlin (on machines without time zones: pip install tzdata)"
            ) from exc


def minutes(text: str) -> int:
    """Return the minutes after midnight of "HH:MM".

    Raises:
        AccessPolicyError: It is no time of day.
    """
    if text == "24:00":
        return _DAY_MINUTES
    found = _TIME.fullmatch(text)
    if found is None:
        raise AccessPolicyError(f"a time of day is HH:MM, got {text[:20]!r}")
    clock = time(int(found[1]), int(found[2]))
    return clock.hour * 60 + clock.minute


def any_holds(schedules: Sequence[Schedule], moment: datetime, time_zone: str) -> bool:
    """Return whether one of ``schedules`` holds at ``moment``."""
    return any(entry.holds_at(moment, time_zone) for entry in schedules)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
