"""Tells what happens at a door: to the app as events, to the audit log as records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from edgeface.access.events import AccessEvent, AccessEventKind
from edgeface.access.memory import DoorMemory
from edgeface.access.state_file import DoorState
from edgeface.errors import EdgefaceError

__all__ = ["Detail", "Journal"]

_MAX_EVENTS = 256
Detail = dict[str, "str | int | float | bool"]
# What is good news only if it holds: it is not told before it is on the disk.
_TOLD_AFTERWARDS = frozenset({AccessEventKind.OPENED, AccessEventKind.FACTOR})


class Journal:
    """The events of one door, and its fault. Not for use from several threads.

    ``fault`` is empty, or the kind of error that keeps the door closed now.
    """

    def __init__(
        self, memory: DoorMemory, on_event: Callable[[AccessEvent], None] | None = None
    ) -> None:
        self._memory = memory
        self._on_event = on_event
        self._events: deque[AccessEvent] = deque(maxlen=_MAX_EVENTS)
        self._kept: deque[tuple[str, Detail]] = deque(maxlen=_MAX_EVENTS)
        self._doubt = ""
        self.fault = ""

    def tell(
        self,
        kind: AccessEventKind,
        subject: str | None = None,
        *,
        detail: Detail | None = None,
        hidden: Detail | None = None,
        state: DoorState | None = None,
    ) -> None:
        """Tell that something happened, and take the new ``state`` that came of it.

        The event is told even where the disk fails, unless it is one that holds only when it is
        written; the state holds in memory at once. ``hidden`` is for the log alone.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        given = detail or {}
        record = self._record(subject, {**given, **(hidden or {})})
        event = AccessEvent(kind, self._memory.clocks.monotonic(), subject, given)
        if kind not in _TOLD_AFTERWARDS:
            self._emit(event)
        if state is None:
            self._memory.note(kind.value, record)
        elif kind is AccessEventKind.OPENED:
            # A log that says so later, of a door that stayed closed, would lie.
            self._memory.remember_or_undo(state, (kind.value, record))
        else:
            self._memory.remember(state, (kind.value, record))
        if kind in _TOLD_AFTERWARDS:
            self._emit(event)

    def tell_at_once(
        self, kind: AccessEventKind, subject: str | None = None, *, detail: Detail | None = None
    ) -> None:
        """Tell that something happened, whatever the disk does; writes nothing, never raises."""
        self._emit(AccessEvent(kind, self._memory.clocks.monotonic(), subject, detail or {}))

    def write_later(self, kind: AccessEventKind, subject: str | None = None) -> None:
        """Keep a record until :meth:`write_kept`: nobody may see by the time that it is made."""
        self._kept.append((kind.value, self._record(subject, {})))

    def write_kept(self) -> None:
        """Bring the records to the disk that were kept.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        while self._kept:
            self._memory.note(*self._kept.popleft())

    def tell_doubt(self, doubt: str) -> None:
        """Tell that the time of day came into doubt, or out of it; once.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        if doubt != self._doubt:
            self._doubt = doubt
            self.tell(AccessEventKind.CLOCK, detail={"doubt": doubt})

    def note_fault(self, cause: Exception) -> None:
        """Take that something broke; told once, until :meth:`recovered`."""
        name = type(cause).__name__
        if name != self.fault:
            self.fault = name
            # The disk may be what broke.
            with suppress(EdgefaceError, OSError):
                self.tell(AccessEventKind.FAULT, detail={"error": name})

    def recovered(self) -> None:
        """Take that everything works again.

        Raises:
            AuditError: The log cannot be written: it does not.
        """
        if self.fault:
            self.fault = ""
            self.tell(AccessEventKind.RECOVERED)

    def take(self) -> tuple[AccessEvent, ...]:
        """Return what happened since the last call, oldest first."""
        taken = tuple(self._events)
        self._events.clear()
        return taken

    def _record(self, subject: str | None, detail: Detail) -> Detail:
        named = {} if subject is None else {"subject": self._memory.keys.pseudonym(subject)}
        return {**detail, **named}

    def _emit(self, event: AccessEvent) -> None:
        self._events.append(event)
        if self._on_event is not None:
            with suppress(Exception):
                self._on_event(event)
