"""Delivers recorded events to a sink: in order, again and again until it takes them."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from examples.attendance.errors import AttendanceError
from examples.attendance.journal import Event
from examples.attendance.store import Store
from examples.attendance.values import Person, SinkStatus

__all__ = ["Courier", "PresenceLine", "Roll", "Sink", "SinkError"]

_LOG = logging.getLogger("attendance.sinks")
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 300.0
_MOST_AT_ONCE = 50


class SinkError(AttendanceError):
    """A sink did not take an event; it is tried again."""


@dataclass(frozen=True, slots=True)
class PresenceLine:
    """Whether somebody is in now; ``label`` is their name where sinks may have it."""

    person_id: str
    number: int
    label: str
    is_in: bool


@dataclass(frozen=True, slots=True)
class Roll:
    """Who may be in; ``last_number`` is the highest that was ever given to anybody."""

    lines: tuple[PresenceLine, ...] = ()
    last_number: int = 0


class Sink(Protocol):
    """Somewhere that events go. What was delivered once may come again: ``id`` tells."""

    @property
    def name(self) -> str:
        """What the sink is called; its waiting events are kept under this name."""
        ...

    def start(self, roll: Callable[[], Roll]) -> None:
        """Begin; ``roll`` tells who is in, and may be called from any thread."""
        ...

    def deliver(self, payloads: Sequence[Mapping[str, object]]) -> int:
        """Deliver events in order; return how many of the first were taken.

        Raises:
            SinkError: Not one was.
        """
        ...

    def forget(self, person: Person) -> None:
        """Take a person's name out of what the sink keeps."""
        ...

    def close(self) -> None:
        """Free the sink; may be called twice."""
        ...


class Courier:
    """One sink's thread. What waits is in the record, so that a crash loses nothing."""

    def __init__(
        self,
        sink: Sink,
        store: Store,
        payload: Callable[[Event], Mapping[str, object]],
        *,
        first_delay_s: float = _FIRST_DELAY_S,
    ) -> None:
        self._sink = sink
        self._store = store
        self._payload = payload
        self._first_delay_s = first_delay_s
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"attendance-{sink.name}", daemon=True
        )
        self._delivered = 0
        self._failures = 0
        self._in_a_row = 0
        self._error: str | None = None

    def start(self, roll: Callable[[], Roll]) -> None:
        """Begin with what an earlier run left."""
        self._sink.start(roll)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new."""
        self._wake.set()

    def status(self) -> SinkStatus:
        """Return how the sink is doing."""
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT count(*) FROM outbox WHERE sink = ?", (self._sink.name,)
            ).fetchone()
        return SinkStatus(
            self._sink.name, int(row[0]), self._delivered, self._failures, self._error
        )

    def forget(self, person: Person) -> None:
        """Take a person's name out of what the sink keeps."""
        self._sink.forget(person)

    def close(self) -> None:
        """Stop, with what waits still waiting; may be called twice."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sink.close()

    def deliver_once(self) -> int:
        """Deliver what waits, once; return how many events the sink took.

        Raises:
            SinkError: It took none.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT id, event_id FROM outbox WHERE sink = ? ORDER BY id LIMIT ?",
                (self._sink.name, _MOST_AT_ONCE),
            ).fetchall()
        if not rows:
            return 0
        marks = ", ".join("?" * len(rows))
        found = self._store.events(f"id IN ({marks})", [event_id for _, event_id in rows])
        events = {event.id: event for event in found}
        payloads = [self._payload(events[event_id]) for _, event_id in rows if event_id in events]
        taken = self._sink.deliver(payloads) if payloads else 0
        gone = [(number,) for number, event_id in rows if event_id not in events]
        done = [(number,) for number, event_id in rows if event_id in events][:taken]
        with self._store.writing() as connection:
            connection.executemany("DELETE FROM outbox WHERE id = ?", [*gone, *done])
        self._delivered += len(done)
        return len(done) + len(gone)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                while self.deliver_once() and not self._stopping.is_set():
                    self._succeeded()
                self._succeeded()
            # A sink of somebody else may raise anything, and must not end the deliveries.
            except Exception as exc:  # noqa: BLE001
                own = isinstance(exc, AttendanceError)
                self._failed(str(exc) if own else f"{self._sink.name}: {type(exc).__name__}")
                self._stopping.wait(self._delay_s())
                continue
            self._wake.wait()

    def _succeeded(self) -> None:
        if self._in_a_row:
            _LOG.info("sink %s works again", self._sink.name)
        self._in_a_row, self._error = 0, None

    def _failed(self, error: str) -> None:
        self._failures += 1
        self._in_a_row += 1
        self._error = error
        if self._in_a_row == 1:
            _LOG.warning("sink %s does not take events: %s", self._sink.name, error)

    def _delay_s(self) -> float:
        """Return the wait before the next try: doubled each time, and never the same twice.

        Many offices that lost the same receiver must not all come back at the same moment.
        """
        longest_s = min(_LONGEST_DELAY_S, self._first_delay_s * 2.0 ** (self._in_a_row - 1))
        return random.uniform(0.5, 1.0) * longest_s
