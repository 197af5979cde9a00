"""A day as a script: who is in when, what each camera sees, what goes wrong; and what must follow.

The script is made apart from the rules: what is expected are the stays as they were drawn, and a
day is drawn again where it would leave open what is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from examples.attendance.interface import Settings

CAMERAS = ("door", "room")
ABSENCE_S = 180.0
BLIND_S = 1500.0
LOOK_S = 40.0
"""The longest time between two sightings of somebody who is in front of a working camera."""
MARGIN_S = 60.0

# Where the night from the first day to the second has 23, 24 or 25 hours.
STARTS = (
    ("Europe/Berlin", datetime(2026, 3, 28, 17)),
    ("Europe/Berlin", datetime(2026, 10, 24, 17)),
    ("America/New_York", datetime(2026, 3, 7, 17)),
    ("America/New_York", datetime(2026, 10, 31, 17)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 17)),
    ("Asia/Kathmandu", datetime(2026, 6, 1, 6)),
    ("Europe/London", datetime(2026, 12, 31, 16)),
)


@dataclass(frozen=True)
class Stay:
    person: str
    starts_s: float
    ends_s: float
    by_pin: bool = False
    # The camera that the person is in front of, from each time on.
    cameras: tuple[tuple[float, str], ...] = ()

    def camera_at(self, t: float) -> str:
        return [camera for since, camera in self.cameras if since <= t][-1]


@dataclass(frozen=True)
class Outage:
    """``camera`` sees nothing; "" is the whole program, killed or stopped."""

    camera: str
    starts_s: float
    ends_s: float
    is_kill: bool = False

    def hides(self, camera: str, t: float) -> bool:
        return self.camera in ("", camera) and self.starts_s <= t <= self.ends_s


@dataclass(frozen=True)
class Day:
    zone: str
    starts: datetime
    day_starts_hour: int
    length_s: float
    stays: tuple[Stay, ...]
    outages: tuple[Outage, ...]
    # (when, by how many seconds the wall clock is set)
    clock_steps: tuple[tuple[float, float], ...]
    boots: tuple[float, ...] = ()

    @property
    def start_ms(self) -> int:
        return int(self.starts.replace(tzinfo=ZoneInfo(self.zone)).timestamp() * 1000)

    @property
    def settings(self) -> Settings:
        return Settings(
            zone_name=self.zone,
            day_starts_at=datetime(2000, 1, 1, self.day_starts_hour).time(),
            absence_s=ABSENCE_S,
            blind_s=BLIND_S,
        )

    def sees(self, camera: str, t: float) -> bool:
        return not any(outage.hides(camera, t) for outage in self.outages)

    def is_running(self, t: float) -> bool:
        return not any(outage.camera == "" and outage.hides("", t) for outage in self.outages)

    def sightings(self, rng: random.Random) -> Iterator[tuple[float, str, str]]:
        """Yield (time, camera, person) of every look that shows a known person."""
        for stay in self.stays:
            if stay.by_pin:
                continue
            t = stay.starts_s
            while t < stay.ends_s:
                camera = stay.camera_at(t)
                if self.sees(camera, t):
                    yield t, camera, stay.person
                    if rng.random() < 0.1:  # two cameras see the same place
                        other = CAMERAS[CAMERAS.index(camera) - 1]
                        if self.sees(other, t):
                            yield t, other, stay.person
                            yield t + 0.01, camera, stay.person
                crossings = [since for since, _ in stay.cameras if since > t]
                t = min([t + rng.uniform(1.0, LOOK_S), *crossings])

    def expected_days(self, stay: Stay) -> str:
        """Return the working day of a stay, by the local clock: whole hours, so never ambiguous."""
        moment = datetime.fromtimestamp(self.start_ms / 1000 + stay.starts_s, ZoneInfo(self.zone))
        day = moment.date()
        if moment.hour < self.day_starts_hour:
            day -= timedelta(days=1)
        return day.isoformat()


@dataclass
class _Draft:
    rng: random.Random
    length_s: float
    outages: list[Outage] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)


def random_day(seed: int, *, hours: float = 15.0, people: int = 5) -> Day:
    """Return a day that leaves nothing open."""
    rng = random.Random(seed)
    while True:
        draft = _Draft(rng, hours * 3600.0)
        _add_outages(draft)
        for number in range(people):
            _add_person(draft, f"person-{number}", by_pin=number == people - 1)
        zone, starts = rng.choice(STARTS)
        steps = []
        if rng.random() < 0.5:
            size = rng.choice((-3600.0, -900.0, -10800.0, 3600.0, 120.0))
            steps.append((rng.uniform(0.2, 0.7) * draft.length_s, size))
        day = Day(
            zone, starts, rng.choice((0, 0, 5, 22)), draft.length_s, tuple(draft.stays),
            tuple(draft.outages), tuple(steps),
        )  # fmt: skip
        if all(_is_clear(day, stay) for stay in day.stays if not stay.by_pin):
            return day


def _add_outages(draft: _Draft) -> None:
    rng, t = draft.rng, 1800.0
    while t < draft.length_s - 3600.0:
        length = rng.choice((rng.uniform(1.0, 30.0), rng.uniform(30.0, BLIND_S - 2 * MARGIN_S)))
        camera = rng.choice(("", "", *CAMERAS))
        kill = camera == "" and rng.random() < 0.7
        draft.outages.append(Outage(camera, t, t + length, kill))
        t += length + rng.uniform(600.0, 9000.0)


def _add_person(draft: _Draft, person: str, *, by_pin: bool) -> None:
    rng, t = draft.rng, draft.rng.uniform(60.0, 4000.0)
    while t < draft.length_s - 5000.0:
        ends = min(t + rng.choice((rng.uniform(60, 900), rng.uniform(900, 20000))),
                   draft.length_s - 3000.0)  # fmt: skip
        if by_pin:  # nobody can sign while the program is down
            t, ends = (_when_running(draft, moment) for moment in (t, ends))
        cameras = [(t, rng.choice(CAMERAS))]
        crossing = t
        while (crossing := crossing + rng.uniform(100.0, 4000.0)) < ends:
            camera = CAMERAS[CAMERAS.index(cameras[-1][1]) - 1]
            # Nobody crosses while something is out: where they went would be anybody's guess.
            if not any(o.starts_s - 60 <= crossing <= o.ends_s + 60 for o in draft.outages):
                cameras.append((crossing, camera))
        draft.stays.append(Stay(person, t, ends, by_pin, tuple(cameras)))
        t = ends + rng.uniform(2 * ABSENCE_S, 5000.0)


def _when_running(draft: _Draft, t: float) -> float:
    for outage in draft.outages:
        if outage.camera == "" and outage.starts_s - 1 <= t <= outage.ends_s + 1:
            t = outage.ends_s + 2
    return t


def _is_clear(day: Day, stay: Stay) -> bool:
    """Whether a stay is seen, and the gap after it is watched long enough to tell."""
    last_camera = stay.camera_at(stay.ends_s)
    # A stay is seen where one camera works for long enough while the person is in front of it.
    looks = [t for t in _grid(stay.starts_s, stay.ends_s) if day.sees(stay.camera_at(t), t)]
    after = [s.starts_s for s in day.stays if s.person == stay.person and s.starts_s > stay.ends_s]
    gap_end = min(after, default=day.length_s)
    hidden = sum(
        max(0.0, min(o.ends_s, gap_end) - max(o.starts_s, stay.ends_s - LOOK_S))
        for o in day.outages
        if o.camera in ("", last_camera)
    )
    watched = gap_end - stay.ends_s - hidden
    return len(looks) * 5.0 > 2 * LOOK_S + 5 and watched > ABSENCE_S + MARGIN_S


def _grid(start: float, end: float) -> Iterator[float]:
    while start < end:
        yield start
        start += 5.0
