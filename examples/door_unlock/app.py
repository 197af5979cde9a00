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
    Lease,
)
from edgeface.camera import FrameSource, LiveSource
from edgeface.errors import EdgefaceError, LeaseError
from edgeface.pipeline import Recognizer
from edgeface.types import Frame
from examples.door_unlock.locks import Lock

__all__ = ["BoardEntry", "Door", "Snapshot"]

# How long the loop waits for a frame before it looks at the camera's health again.
_FRAME_TIMEOUT_S = 0.5
# Without a turn of the loop for so long the door counts as hung.
HUNG_S = 3.0
_MAX_ENTRIES = 12
# Kinds that must not show anywhere near the door: who forces somebody to open it looks there too.
_SILENT = frozenset({AccessEventKind.DURESS})
# What the panel may say of an event. Nothing that tells an impostor how near they came: neither
# what was seen, nor whom the door knows, nor why it stays closed.
_SHOWN = {
    AccessEventKind.STARTED: "the program started",
    AccessEventKind.LOCKED_OUT: "too many failed attempts: please wait",
    AccessEventKind.FACE_OFF: "too many failed attempts: a code comes first now",
    AccessEventKind.FACE_ON: "the face counts again",
    AccessEventKind.FAULT: "out of order",
    AccessEventKind.RECOVERED: "in order again",
}


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One line of what happened, for the panel: when on the wall clock, and what."""

    time: str
    what: str
    is_alarm: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a panel may show now.

    ``conditions`` are (what, got) of the decision that opened the door, while it is open; a closed
    door says nothing of what was seen. ``problem`` is what is wrong with the lock.
    """

    status: DoorStatus
    lock: str
    problem: str
    is_open: bool
    is_running: bool
    conditions: tuple[tuple[str, str], ...]
    entries: tuple[BoardEntry, ...]


class Door:
    """One door: a controller, a recogniser and a lock. The panel may call it from other threads.

    ``say`` is the terminal of whoever looks after the door: it is told everything but names and
    duress.
    """

    def __init__(
        self,
        controller: AccessController,
        lock: Lock,
        *,
        say: Callable[[str], object] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.controller = controller
        self._lock, self._say, self._clock = lock, say, clock
        self._entries: deque[BoardEntry] = deque(maxlen=_MAX_ENTRIES)
        self._opened_by: AccessDecision | None = None
        self._problem = ""
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
        for event in self.controller.take_events():
            self._note(event)
        if answer.lease is not None:
            self._open(answer.lease, answer.decision)
        if self._lock.problem != self._problem:
            self._problem = self._lock.problem
            self._enter(f"the lock: {self._problem or 'in order again'}")
        self._turn_s = self._clock()

    def press(self) -> None:
        """Take a press of the button."""
        self.controller.press()

    def present(self, code: str) -> FactorAnswer:
        """Return whether ``code`` is a second factor of the person whom the camera sees."""
        return self.controller.present_factor(code)

    def left(self, subject: str | None = None) -> None:
        """Take that ``subject`` went out; without one, that nobody is inside any more."""
        if subject is not None:
            self.controller.note_left(subject)
            return
        for permit in self.controller.policy.permits:
            self.controller.note_left(permit.subject)

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
        is_open, problem = self._lock.is_open, self._lock.problem
        decision = self._opened_by if is_open and not problem else None
        return Snapshot(
            status=self.controller.status(),
            lock=self._lock.name,
            problem=problem,
            is_open=is_open,
            is_running=self.is_running,
            conditions=() if decision is None else _reasons(decision),
            entries=tuple(reversed(self._entries)),
        )

    def _note(self, event: AccessEvent) -> None:
        """Say an event on the terminal; keep for the panel that it happened, where it may."""
        if event.kind in _SILENT:
            return
        self._enter(_sentence(event))
        if event.kind in _SHOWN:
            self._show(_SHOWN[event.kind], is_alarm=event.is_alarm)

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

    def _open(self, lease: Lease, decision: AccessDecision) -> None:
        # Before the lock says that it is open, or a panel would show the reasons of the last time.
        self._opened_by = decision
        try:
            self._lock.unlock(lease.token)
        except LeaseError as exc:
            # It is certain that nobody came in; the lease is used up all the same.
            self.controller.note_not_opened(lease)
            self._refused(exc)
        except EdgefaceError as exc:
            self._refused(exc)
        else:
            self._enter("the door is open")
            self._show("the door is open")

    def _refused(self, cause: EdgefaceError) -> None:
        self._opened_by = None
        self._enter(f"the lock refused: {cause}")
        self._show("the lock did not open", is_alarm=True)

    def _enter(self, what: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')} {what}")

    def _show(self, what: str, *, is_alarm: bool = False) -> None:
        self._entries.append(BoardEntry(time.strftime("%H:%M:%S"), what, is_alarm))


def _reasons(decision: AccessDecision) -> tuple[tuple[str, str], ...]:
    return tuple((one.what, one.got) for one in decision.conditions)


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
