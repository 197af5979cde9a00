"""The attendance book: sightings and corrections in, recorded events out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from examples.attendance.errors import AttendanceError
from examples.attendance.journal import Event, EventKind, event_of
from examples.attendance.presence_rows import (
    BEAT_S,
    last_recorded_ms,
    read_presences,
    write_presences,
)
from examples.attendance.rules import Entry, Presences, new_id
from examples.attendance.store import Store
from examples.attendance.times import Clocks, Instant, SystemClocks, Timeline, as_utc
from examples.attendance.values import Method, PinAction, Present, Settings

__all__ = ["Book"]


class Book:
    """Applies the rules and records what follows; may be called from any thread.

    What is in memory changes only after it was written: where the disk refuses, the next sighting
    tries again. ``tell`` is called with every event after it was recorded. ``sinks`` are the names
    of those that each event is noted for, in the same transaction.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clocks: Clocks | None = None,
        sinks: Sequence[str] = (),
        tell: Callable[[Event], None] = lambda _event: None,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self.store = store
        self._clocks = clocks or SystemClocks()
        self._sinks = tuple(sinks)
        self._tell = tell
        self._make_id = make_id
        self._lock = threading.RLock()
        with store.reading() as connection:
            self._timeline = Timeline(self._clocks, last_recorded_ms(connection))
            now = self._timeline.now()
            empty = Presences(settings, make_id=make_id)
            self._state = read_presences(connection, empty, now, self._clocks)
        self._beat_s = now.clock_s

    @property
    def settings(self) -> Settings:
        """The settings that the rules follow."""
        return self._state.settings

    def follow(self, settings: Settings) -> None:
        """Follow other settings from now on."""
        with self._lock:
            self._state = replace(self._state, settings=settings)

    def now(self) -> Instant:
        """Return this moment in recorded time."""
        with self._lock:
            return self._timeline.now()

    @property
    def clock_ahead_ms(self) -> int:
        """By how much recorded time is ahead of a wall clock that was set back."""
        return self._timeline.ahead_ms

    def present(self) -> tuple[Present, ...]:
        """Return who is in, in order of arrival."""
        with self._lock:
            visits = sorted(self._state.visits.values(), key=lambda one: one.arrived_ms)
        return tuple(
            Present(
                one.person_id, one.visit_id, as_utc(one.arrived_ms), as_utc(one.seen.utc_ms),
                one.seen_by, one.method,
            )
            for one in visits
        )  # fmt: skip

    def see(self, camera: str, person_ids: Iterable[str]) -> None:
        """Take what one look of a camera shows: the people who are known, perhaps nobody."""
        with self._lock:
            now = self._timeline.now()
            state, entries = self._state, list[Entry]()
            for person_id in person_ids:
                state, new = state.see(person_id, camera, now)
                entries += new
            state, gone = state.tick(now)
            self._commit(state, [*entries, *gone], now)

    def camera(self, camera: str, *, usable: bool) -> None:
        """Take that a camera can see, or that it cannot."""
        with self._lock:
            now = self._timeline.now()
            self._state = self._state.camera(camera, now, usable=usable)

    def tick(self) -> None:
        """Take that time passed: whoever was away for long enough has left."""
        self.see("", ())

    def unknown(self, camera: str) -> None:
        """Count a visitor who is not enrolled."""
        if self.settings.count_unknown:
            self.record(EventKind.UNKNOWN, camera=camera)

    def record(
        self,
        kind: EventKind,
        *,
        person_id: str | None = None,
        camera: str = "",
        author: str = "",
        reason: str = "",
    ) -> None:
        """Record something that changes no visit."""
        with self._lock:
            now = self._timeline.now()
            event = Event(
                self._make_id(), kind, now.utc_ms, now.utc_ms, person_id,
                camera=camera, author=author, reason=reason,
            )  # fmt: skip
            self._write(self._state, [event], now)

    def sign(self, person_id: str, action: PinAction) -> bool:
        """Record an arrival or departure by PIN; return False if they were in, or out, already."""
        with self._lock:
            now = self._timeline.now()
            state, gone = self._state.tick(now)
            if (person_id in state.visits) == (action is PinAction.ARRIVE):
                self._commit(state, gone, now)
                return False
            if action is PinAction.ARRIVE:
                state, entries = state.arrive_by_pin(person_id, now)
            else:
                state, entries = state.depart(person_id, now, method=Method.PIN)
            self._commit(state, [*gone, *entries], now)
            return True

    def correct(self, event: Event) -> None:
        """Record a correction; one that ends an open visit records the departure, too.

        Raises:
            AttendanceError: It does not follow from what was recorded before.
        """
        if event.kind is not EventKind.CORRECTION:
            raise AttendanceError(f"a correction was expected, got {event.kind.value}")
        with self._lock:
            now = self._timeline.now()
            visit = next(
                (v for v in self._state.visits.values() if v.visit_id == event.visit_id), None
            )
            state, entries = self._state, tuple[Entry, ...]()
            ends = event.departed_ms is not None or event.action == "remove"
            if visit is not None and ends:
                at_ms = event.departed_ms
                state, entries = state.depart(
                    visit.person_id, now, at_ms=at_ms, method=Method.MANUAL
                )
            elif visit is not None and event.arrived_ms is not None:
                moved = replace(visit, arrived_ms=event.arrived_ms)
                state = replace(state, visits={**state.visits, visit.person_id: moved})
            departed = [event_of(entry, now.utc_ms) for entry in entries]
            self._write(state, [*departed, event], now)

    def end_all(self) -> None:
        """Record the departure of everybody: the last recording ended."""
        with self._lock:
            now = self._timeline.now()
            state, entries = self._state.end_all()
            self._commit(state, entries, now)

    def forget(self, person_id: str) -> None:
        """Take a person out of who is in, without recording anything."""
        with self._lock:
            self._write(self._state.forget(person_id), [], self._timeline.now())

    def beat(self) -> None:
        """Write who is in, if that was not done for some seconds."""
        with self._lock:
            now = self._timeline.now()
            if now.clock_s - self._beat_s >= BEAT_S:
                self._write(self._state, [], now)

    def close(self) -> None:
        """Write who is in, for the next run."""
        with self._lock:
            self._write(self._state, [], self._timeline.now())

    def _commit(self, state: Presences, entries: Sequence[Entry], now: Instant) -> None:
        if entries:
            self._write(state, [event_of(entry, now.utc_ms) for entry in entries], now)
        else:
            self._state = state

    def _write(self, state: Presences, events: Sequence[Event], now: Instant) -> None:
        with self.store.writing() as connection:
            for event in events:
                self.store.append(connection, event, self._sinks)
            write_presences(connection, state, now, self._clocks.boot_id())
        self._state, self._beat_s = state, now.clock_s
        for event in events:
            self._tell(event)
