"""What is recorded, and how visits follow from it: pure functions over events in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from examples.attendance.errors import AttendanceError
from examples.attendance.rules import Entry
from examples.attendance.times import as_utc
from examples.attendance.values import Correction, CorrectionAction, Method, VisitRow

__all__ = ["Event", "EventKind", "StoredVisit", "event_of", "fold", "replay", "visit_row"]


class EventKind(str, Enum):
    """What an event records."""

    ARRIVED = "arrived"
    DEPARTED = "departed"
    CORRECTION = "correction"
    UNKNOWN = "unknown"
    FORGOTTEN = "forgotten"
    CHANGE = "change"
    """Somebody changed people or settings; ``reason`` says what, without names."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the record; never changed afterwards.

    ``at_ms`` is when it happened, ``recorded_ms`` when it was written. The last five are set for
    corrections; ``arrived_ms`` and ``departed_ms`` are what a correction sets, or None.
    """

    id: str
    kind: EventKind
    at_ms: int
    recorded_ms: int
    person_id: str | None = None
    visit_id: str | None = None
    camera: str = ""
    method: Method | None = None
    action: CorrectionAction | None = None
    author: str = ""
    reason: str = ""
    arrived_ms: int | None = None
    departed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StoredVisit:
    """A visit as the events so far say it; what a correction set stays as it was set."""

    visit_id: str
    person_id: str
    arrived_ms: int
    departed_ms: int | None
    camera: str
    method: Method
    is_removed: bool = False
    is_departure_set: bool = False


def event_of(entry: Entry, recorded_ms: int) -> Event:
    """Return the event that records ``entry``; its id follows from the visit: there is one."""
    kind = EventKind.ARRIVED if entry.is_arrival else EventKind.DEPARTED
    return Event(
        id=f"{entry.visit.visit_id}-{kind.value}",
        kind=kind,
        at_ms=entry.at_ms,
        recorded_ms=recorded_ms,
        person_id=entry.visit.person_id,
        visit_id=entry.visit.visit_id,
        camera=entry.camera,
        method=entry.method,
    )


def fold(visit: StoredVisit | None, event: Event) -> StoredVisit:
    """Return what a visit is after one more of its events.

    Raises:
        AttendanceError: The event does not follow from those before it.
    """
    if event.kind is EventKind.ARRIVED and visit is None:
        return _begun(event, event.at_ms, None, event.method or Method.FACE)
    if event.kind is EventKind.CORRECTION and event.action is CorrectionAction.ADD:
        if visit is None and event.arrived_ms is not None:
            return _begun(event, event.arrived_ms, event.departed_ms, Method.MANUAL)
    elif visit is not None and event.kind is EventKind.DEPARTED:
        return visit if visit.is_departure_set else replace(visit, departed_ms=event.at_ms)
    elif visit is not None and event.action is CorrectionAction.REMOVE:
        return replace(visit, is_removed=True)
    elif visit is not None and event.action is CorrectionAction.MOVE:
        return _moved(visit, event)
    raise AttendanceError(f"event {event.id} does not follow from what was recorded before")


def replay(events: Iterable[Event]) -> dict[str, StoredVisit]:
    """Return every visit that the events make, by id."""
    visits: dict[str, StoredVisit] = {}
    for event in events:
        if event.visit_id is not None:
            visits[event.visit_id] = fold(visits.get(event.visit_id), event)
    return visits


def visit_row(visit: StoredVisit, corrections: Iterable[Event]) -> VisitRow:
    """Return a visit for pages, with the corrections that were made to it."""
    return VisitRow(
        visit_id=visit.visit_id,
        person_id=visit.person_id,
        arrived_utc=as_utc(visit.arrived_ms),
        departed_utc=None if visit.departed_ms is None else as_utc(visit.departed_ms),
        camera=visit.camera,
        method=visit.method,
        corrections=tuple(map(_correction, corrections)),
        is_removed=visit.is_removed,
    )


def _begun(event: Event, arrived_ms: int, departed_ms: int | None, method: Method) -> StoredVisit:
    if event.visit_id is None or event.person_id is None:
        raise AttendanceError(f"event {event.id} begins a visit and names none")
    is_set = departed_ms is not None
    return StoredVisit(
        event.visit_id,
        event.person_id,
        arrived_ms,
        departed_ms,
        event.camera,
        method,
        is_departure_set=is_set,
    )


def _moved(visit: StoredVisit, event: Event) -> StoredVisit:
    if event.arrived_ms is not None:
        visit = replace(visit, arrived_ms=event.arrived_ms)
    if event.departed_ms is not None:
        visit = replace(visit, departed_ms=event.departed_ms, is_departure_set=True)
    return visit


def _correction(event: Event) -> Correction:
    if event.visit_id is None or event.action is None:
        raise AttendanceError(f"event {event.id} is no correction")
    return Correction(
        event_id=event.id,
        visit_id=event.visit_id,
        action=event.action,
        author=event.author,
        reason=event.reason,
        made_utc=as_utc(event.recorded_ms),
        arrived_utc=_utc(event.arrived_ms),
        departed_utc=_utc(event.departed_ms),
    )


def _utc(ms: int | None) -> datetime | None:
    return None if ms is None else as_utc(ms)
