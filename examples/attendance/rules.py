"""Who is in: pure rules. Every function returns a new state and what is to be recorded.

A *sighting* says that a camera sees a known person now. The first begins a visit. The visit is
over when the person was not seen for the minimum absence; it then ended when they were last seen.
Time in which the camera that saw them last could not see (cut, restarting) is no absence, up to a
limit.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from examples.attendance.times import Instant
from examples.attendance.values import Method, Settings

__all__ = ["Entry", "OpenVisit", "Presences", "Restored", "new_id"]


def new_id() -> str:
    """Return a word that was never used before."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class OpenVisit:
    """A visit that is not over.

    ``camera`` saw the arrival, ``seen_by`` the person last, at ``seen``. ``blind_mark_s`` is what
    that camera's count of blind seconds was then.
    """

    visit_id: str
    person_id: str
    method: Method
    camera: str
    arrived_ms: int
    seen: Instant
    seen_by: str
    blind_mark_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Restored:
    """A visit that an earlier run left open.

    ``away_s`` passed since the person was last seen; in ``blind_s`` of these nobody could see them.
    """

    visit: OpenVisit
    away_s: float
    blind_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """An arrival or a departure to record; ``at_ms`` is when it was."""

    visit: OpenVisit
    is_arrival: bool
    at_ms: int
    camera: str
    method: Method


@dataclass(frozen=True, slots=True)
class _Camera:
    """Counts the seconds in which a camera could not see; ``since_s`` is None while it can."""

    blind_s: float = 0.0
    since_s: float | None = None

    def at(self, now_s: float) -> float:
        return self.blind_s + (0.0 if self.since_s is None else max(0.0, now_s - self.since_s))


@dataclass(frozen=True, slots=True)
class Presences:
    """Who is in. ``leaving`` are people who signed out by PIN, and until when they are not counted
    again: they are still in front of the camera.
    """

    settings: Settings
    visits: Mapping[str, OpenVisit] = field(default_factory=dict)
    leaving: Mapping[str, float] = field(default_factory=dict)
    cameras: Mapping[str, _Camera] = field(default_factory=dict)
    make_id: Callable[[], str] = new_id

    def restored(self, found: tuple[Restored, ...], now: Instant) -> Presences:
        """Return the state with the visits that an earlier run left open."""
        visits = {
            one.visit.person_id: replace(
                one.visit,
                seen=replace(one.visit.seen, clock_s=now.clock_s - one.away_s),
                blind_mark_s=self._blind_s(one.visit.seen_by, now.clock_s) - one.blind_s,
            )
            for one in found
        }
        return replace(self, visits={**self.visits, **visits})

    def camera(self, name: str, now: Instant, *, usable: bool) -> Presences:
        """Return the state after a camera said whether it can see."""
        known = self.cameras.get(name)
        if known is not None and (known.since_s is None) == usable:
            return self
        counted = 0.0 if known is None else known.at(now.clock_s)
        camera = _Camera(counted, None if usable else now.clock_s)
        return replace(self, cameras={**self.cameras, name: camera})

    def see(self, person_id: str, camera: str, now: Instant) -> tuple[Presences, tuple[Entry, ...]]:
        """Return the state after a sighting, and the arrival and departure that it leads to."""
        if now.clock_s < self.leaving.get(person_id, now.clock_s):
            return self, ()
        visit = self.visits.get(person_id)
        if visit is not None and not self._is_over(visit, now):
            seen = self._seen(visit, camera, now)
            return replace(self, visits={**self.visits, person_id: seen}), ()
        state, entries = self._without(person_id, visit)
        state, arrived = state._arrive(person_id, camera, now, Method.FACE)
        return state, (*entries, *arrived)

    def tick(self, now: Instant) -> tuple[Presences, tuple[Entry, ...]]:
        """Return the state after time passed, and the departures that it leads to."""
        state, entries = self, list[Entry]()
        for person_id, visit in self.visits.items():
            if self._is_over(visit, now):
                state, departed = state._without(person_id, visit)
                entries += departed
        leaving = {who: until for who, until in state.leaving.items() if until > now.clock_s}
        if len(leaving) < len(state.leaving):
            state = replace(state, leaving=leaving)
        return state, tuple(entries)

    def arrive_by_pin(self, person_id: str, now: Instant) -> tuple[Presences, tuple[Entry, ...]]:
        """Return the state after somebody signed in; nothing is recorded for who is in already."""
        state, entries = self.tick(now)
        if person_id in state.visits:
            return state, entries
        leaving = {who: until for who, until in state.leaving.items() if who != person_id}
        state, arrived = replace(state, leaving=leaving)._arrive(person_id, "", now, Method.PIN)
        return state, (*entries, *arrived)

    def depart(
        self, person_id: str, now: Instant, *, at_ms: int | None = None, method: Method
    ) -> tuple[Presences, tuple[Entry, ...]]:
        """Return the state after somebody signed out, or was written out at ``at_ms``."""
        visit = self.visits.get(person_id)
        if visit is None:
            return self, ()
        state, _ = self._without(person_id, visit)
        leaving = {**self.leaving, person_id: now.clock_s + self.settings.absence_s}
        when_ms = max(visit.arrived_ms, now.utc_ms) if at_ms is None else at_ms
        entry = Entry(visit, False, when_ms, "", method)
        return replace(state, leaving=leaving), (entry,)

    def end_all(self) -> tuple[Presences, tuple[Entry, ...]]:
        """Return the state after the last recording ended: nobody watches any more."""
        state, entries = self, list[Entry]()
        for person_id, visit in self.visits.items():
            if visit.method is Method.FACE:
                state, departed = state._without(person_id, visit)
                entries += departed
        return state, tuple(entries)

    def forget(self, person_id: str) -> Presences:
        """Return the state without a person, as if they had never come."""
        visits = {who: visit for who, visit in self.visits.items() if who != person_id}
        leaving = {who: until for who, until in self.leaving.items() if who != person_id}
        return replace(self, visits=visits, leaving=leaving)

    def blind_s(self, visit: OpenVisit, now_s: float) -> float:
        """Return for how many seconds since the last sighting nobody could see the person."""
        return max(0.0, self._blind_s(visit.seen_by, now_s) - visit.blind_mark_s)

    def _blind_s(self, camera: str, now_s: float) -> float:
        known = self.cameras.get(camera)
        return 0.0 if known is None else known.at(now_s)

    def _is_over(self, visit: OpenVisit, now: Instant) -> bool:
        away_s = now.clock_s - visit.seen.clock_s
        # Who signed in by PIN signs out by PIN: a glance of a camera begins no absence.
        if visit.method is Method.PIN:
            return away_s > self.settings.longest_pin_visit_s
        excused_s = min(self.blind_s(visit, now.clock_s), self.settings.blind_s)
        return away_s - excused_s > self.settings.absence_s

    def _arrive(
        self, person_id: str, camera: str, now: Instant, method: Method
    ) -> tuple[Presences, tuple[Entry, ...]]:
        mark_s = self._blind_s(camera, now.clock_s)
        visit = OpenVisit(
            self.make_id(), person_id, method, camera, now.utc_ms, now, camera, mark_s
        )
        entry = Entry(visit, True, now.utc_ms, camera, method)
        return replace(self, visits={**self.visits, person_id: visit}), (entry,)

    def _seen(self, visit: OpenVisit, camera: str, now: Instant) -> OpenVisit:
        mark_s = self._blind_s(camera, now.clock_s)
        return replace(visit, seen=now, seen_by=camera, blind_mark_s=mark_s)

    def _without(
        self, person_id: str, visit: OpenVisit | None
    ) -> tuple[Presences, tuple[Entry, ...]]:
        if visit is None:
            return self, ()
        visits = {who: one for who, one in self.visits.items() if who != person_id}
        at_ms = max(visit.arrived_ms, visit.seen.utc_ms)
        entry = Entry(visit, False, at_ms, visit.seen_by, visit.method)
        return replace(self, visits=visits), (entry,)
