"""Runs a scripted day through the real book and its file; only clocks and faces are made up."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.attendance.book import Book
from examples.attendance.interface import PinAction
from examples.attendance.journal import Event, EventKind
from examples.attendance.store import Store
from tests.attendance.scripted_day import CAMERAS, Day

TICK_S = 20.0
Step = tuple[float, int, str, tuple[Any, ...]]


@dataclass
class SimulatedClocks:
    start_ms: int
    now_s: float = 0.0
    set_by_ms: int = 0
    boot: str = "boot-1"

    def clock_s(self) -> float:
        return 5000.0 + self.now_s

    def wall_ms(self) -> int:
        return self.start_ms + int(self.now_s * 1000) + self.set_by_ms

    def boot_id(self) -> str:
        return self.boot


def steps_of(day: Day, seed: int) -> list[Step]:
    """Return what happens, in order: (time, order within it, what, details)."""
    rng = random.Random(seed)
    steps: list[Step] = [(t, 1, "see", (c, p)) for t, c, p in day.sightings(rng)]
    for stay in day.stays:
        if stay.by_pin:
            steps.append((stay.starts_s, 1, "sign", (stay.person, PinAction.ARRIVE)))
            steps.append((stay.ends_s, 1, "sign", (stay.person, PinAction.DEPART)))
    for outage in day.outages:
        down, up = ("kill" if outage.is_kill else "stop", "start")
        if outage.camera:
            down, up = "lost", "back"
        steps.append((outage.starts_s, 0, down, (outage.camera,)))
        steps.append((outage.ends_s, 2, up, (outage.camera,)))
    steps += [(t, 0, "clock", (by,)) for t, by in day.clock_steps]
    t = TICK_S
    while t < day.length_s + 30000:
        if day.is_running(t):
            steps.append((t, 1, "tick", ()))
        t += TICK_S if t < day.length_s else 600.0
    heapq.heapify(steps)
    return [heapq.heappop(steps) for _ in range(len(steps))]


@dataclass
class Office:
    """The program, as it is started, stopped and killed."""

    path: Path
    day: Day
    clocks: SimulatedClocks
    book: Book | None = None
    made: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def start(self) -> None:
        store = Store.open(self.path)
        # A power cut is no part of this simulation, and a day makes thousands of writes.
        with store.reading() as connection:
            connection.execute("PRAGMA synchronous = OFF")
        self.book = Book(
            store, self.day.settings, clocks=self.clocks, sinks=("sink",),
            make_id=lambda: f"id-{next(self.made)}",
        )  # fmt: skip
        for camera in CAMERAS:
            self.book.camera(camera, usable=self.day.sees(camera, self.clocks.now_s + 0.001))

    def stop(self, *, is_kill: bool) -> None:
        if self.book is not None:
            if not is_kill:
                self.book.close()
            self.book.store.close()
        self.book = None

    def do(self, what: str, details: tuple[Any, ...]) -> None:
        actions: dict[str, Callable[..., None]] = {
            "kill": lambda _camera: self.stop(is_kill=True),
            "stop": lambda _camera: self.stop(is_kill=False),
            "start": lambda _camera: self.start(),
            "clock": self._set_clock,
            "see": lambda camera, person: self._book.see(camera, [person]),
            "sign": self._sign,
            "lost": lambda camera: self._usable(camera, usable=False),
            "back": lambda camera: self._usable(camera, usable=True),
            "tick": self._tick,
        }
        actions[what](*details)

    @property
    def _book(self) -> Book:
        assert self.book is not None
        return self.book

    def _set_clock(self, by_s: float) -> None:
        self.clocks.set_by_ms += int(by_s * 1000)

    def _usable(self, camera: str, *, usable: bool) -> None:
        if self.book is not None:
            self.book.camera(camera, usable=usable)

    def _sign(self, person: str, action: PinAction) -> None:
        # At a program that is down nobody can sign; they do when it is up again.
        if self.book is not None:
            assert self.book.sign(person, action)

    def _tick(self) -> None:
        self._book.tick()
        self._book.beat()


def run_day(day: Day, folder: Path, seed: int) -> list[Event]:
    """Return the events that a day leads to; the program is closed afterwards."""
    office = Office(folder / "record.db", day, SimulatedClocks(day.start_ms))
    office.start()
    for t, _, what, details in steps_of(day, seed):
        office.clocks.now_s = t
        office.do(what, details)
    assert office.book is not None
    store = office.book.store
    events = [e for e in store.events() if e.kind in (EventKind.ARRIVED, EventKind.DEPARTED)]
    assert office.book.present() == ()
    waiting = store.events("id IN (SELECT event_id FROM outbox WHERE sink = 'sink')")
    assert waiting == events
    assert store.replayed() == {v.visit_id: v for v in store.visits("1")}
    office.stop(is_kill=False)
    return events
