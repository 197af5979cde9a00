"""The loop of the door: frames to the controller, leases to the lock, the rest to a board."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeface.access import (
    AccessController,
    AccessDecision,
    AccessEvent,
    AccessEventKind,
    DoorStatus,
    FactorAnswer,
)
from edgeface.camera import FrameSource, LiveSource
from edgeface.errors import EdgefaceError
from edgeface.pipeline import Recognizer
from edgeface.types import Frame
from examples.door_unlock.locks import Lock

__all__ = ["BoardEntry", "Door", "Snapshot"]

# How long the loop waits for a frame before it looks at the camera's health again.
_FRAME_TIMEOUT_S = 0.5
# Without a turn of the loop for so long the door counts as hung.
HUNG_S = 3.0
_MAX_ENTRIES = 12
# Kinds that must not show at the door: who forces somebody to open it looks at the panel too.
_SILENT = frozenset({AccessEventKind.DURESS})


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One line of what happened: when on the wall clock, what, and the conditions of it.

    No name and no score. ``conditions`` are (what, got, wanted, satisfied) of a decision, empty
    for other events.
    """

    time: str
    what: str
    is_alarm: bool = False
    conditions: tuple[tuple[str, str, str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a panel may show now."""

    status: DoorStatus
    lock: str
    is_open: bool
    is_running: bool
    conditions: tuple[tuple[str, str, str, bool], ...]
    entries: tuple[BoardEntry, ...]


class Door:
    """One door: a controller, a recogniser and a lock. The panel may call it from other threads."""

    def __init__(
        self,
        controller: AccessController,
        lock: Lock,
        *,
        say: Callable[[str], object] = print,
        clock: Callable[[], float] = time.monotonic,
        on_event: Callable[[AccessEvent], object] | None = None,
    ) -> None:
        self.controller = controller
        self._lock, self._say, self._clock, self._on_event = lock, say, clock, on_event
        self._entries: deque[BoardEntry] = deque(maxlen=_MAX_ENTRIES)
        self._decision: AccessDecision | None = None
        self._opened_by: AccessDecision | None = None
        self._turn_s = clock()
        self._stop = threading.Event()

    def run(self, recognizer: Recognizer, source: FrameSource) -> None:
        """Work until the source ends, or :meth:`stop`; the door is locked when this returns.

        Raises:
            CameraError: The source failed for good.
            BackendError: An engine failed.
        """
        try:
            stream = recognizer.stream(source)
            for frame in self._frames(source):
                seen = () if frame is None else stream.process(frame).observations
                health = source.health() if isinstance(source, LiveSource) else None
                self.controller.observe(frame, seen, health)
                self.turn()
        finally:
            self._lock.close()

    def turn(self) -> None:
        """Decide once, and open the lock where there is a lease for it."""
        answer = self.controller.decide(self._lock.challenge)
        self._decision = answer.decision
        for event in self.controller.take_events():
            self.note(event)
        if answer.lease is not None:
            self._open(answer.lease.token, answer.decision)
        self._turn_s = self._clock()

    def press(self) -> None:
        """Take a press of the button."""
        self.controller.press()

    def present(self, code: str) -> FactorAnswer:
        """Return whether ``code`` is a second factor of the person whom the camera sees."""
        return self.controller.present_factor(code)

    def stop(self) -> None:
        """End :meth:`run` after the current frame, and lock at once."""
        self._stop.set()
        self._lock.close()

    @property
    def is_stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    @property
    def is_running(self) -> bool:
        """Whether the loop has turned lately; a hung loop must not be called healthy."""
        return not self._stop.is_set() and self._clock() - self._turn_s < HUNG_S

    def snapshot(self) -> Snapshot:
        """Return what a panel may show."""
        is_open = self._lock.is_open
        # An open door shows why it opened; a closed one, what is missing.
        decision = self._opened_by if is_open else self._decision
        return Snapshot(
            status=self.controller.status(),
            lock=self._lock.name,
            is_open=is_open,
            is_running=self.is_running,
            conditions=() if decision is None else _shown(decision),
            entries=tuple(reversed(self._entries)),
        )

    def note(self, event: AccessEvent) -> None:
        """Say an event on the terminal and keep it for the panel, without names."""
        if self._on_event is not None:
            self._on_event(event)
        if event.kind in _SILENT:
            return
        self._enter(_sentence(event), is_alarm=event.is_alarm)

    def _frames(self, source: FrameSource) -> Iterator[Frame | None]:
        """Yield frames, and None where a live source has none, so that its health is looked at."""
        if not isinstance(source, LiveSource):
            for frame in source:
                if self._stop.is_set():
                    return
                yield frame
            return
        while not self._stop.is_set() and not source.is_closed:
            yield source.read(timeout_s=_FRAME_TIMEOUT_S)

    def _open(self, token: str, decision: AccessDecision) -> None:
        # Before the lock says that it is open, or a panel would show the reasons of the last time.
        self._opened_by = decision
        try:
            self._lock.unlock(token)
        except EdgefaceError as exc:
            # The lease is used up: the person has to ask again.
            self._enter(f"the lock refused: {exc}", is_alarm=True)
            return
        self._enter("the door is open", conditions=_shown(decision))

    def _enter(
        self,
        what: str,
        *,
        is_alarm: bool = False,
        conditions: tuple[tuple[str, str, str, bool], ...] = (),
    ) -> None:
        entry = BoardEntry(time.strftime("%H:%M:%S"), what, is_alarm, conditions)
        self._entries.append(entry)
        self._say(f"{entry.time} {what}")


def _shown(decision: AccessDecision) -> tuple[tuple[str, str, str, bool], ...]:
    return tuple((one.what, one.got, one.wanted, one.satisfied) for one in decision.conditions)


_SENTENCES = {
    AccessEventKind.STARTED: "the controller started",
    AccessEventKind.OPENED: "a lease was given",
    AccessEventKind.FACTOR: "a code was right",
}


def _sentence(event: AccessEvent) -> str:
    """Return what happened, in words without a name; hashes are for the log."""
    if event.kind in _SENTENCES:
        return _SENTENCES[event.kind]
    short = [f"{name} {value}" for name, value in event.detail.items() if len(str(value)) <= 40]
    return f"{event.kind.value}: {', '.join(short)}" if short else event.kind.value
