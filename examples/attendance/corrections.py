"""Corrections: checked, and made into events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from examples.attendance.checks import clean_text
from examples.attendance.errors import AttendanceError
from examples.attendance.journal import Event, EventKind, StoredVisit
from examples.attendance.rules import new_id
from examples.attendance.store import Store
from examples.attendance.times import as_ms
from examples.attendance.values import CorrectionAction

__all__ = ["Writer", "adding", "moving", "removing", "require_visit"]

_FOREVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Writer:
    """Who corrects, why, and when."""

    author: str
    reason: str
    now_ms: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "author", clean_text(self.author, "the author"))
        object.__setattr__(self, "reason", clean_text(self.reason, "the reason"))

    def event(
        self,
        action: CorrectionAction,
        visit_id: str,
        person_id: str,
        arrived_ms: int | None = None,
        departed_ms: int | None = None,
    ) -> Event:
        """Return the event that records a correction."""
        return Event(
            id=new_id(),
            kind=EventKind.CORRECTION,
            at_ms=self.now_ms if arrived_ms is None else arrived_ms,
            recorded_ms=self.now_ms,
            person_id=person_id,
            visit_id=visit_id,
            action=action,
            author=self.author,
            reason=self.reason,
            arrived_ms=arrived_ms,
            departed_ms=departed_ms,
        )


def adding(
    store: Store, writer: Writer, person_id: str, arrived: datetime, departed: datetime
) -> Event:
    """Return the event that adds a visit.

    Raises:
        AttendanceError: The times are out of order, to come, or overlap another visit.
    """
    arrived_ms, departed_ms = _ms(arrived), _ms(departed)
    _require_order(arrived_ms, departed_ms, writer.now_ms)
    _require_free(store, person_id, "", arrived_ms, departed_ms)
    return writer.event(CorrectionAction.ADD, new_id(), person_id, arrived_ms, departed_ms)


def moving(
    store: Store,
    writer: Writer,
    visit_id: str,
    arrived: datetime | None,
    departed: datetime | None,
) -> Event:
    """Return the event that gives a visit other times.

    Raises:
        AttendanceError: No such visit, or no usable times.
    """
    visit = _require_kept(require_visit(store, visit_id))
    if arrived is None and departed is None:
        raise AttendanceError("a correction must set the arrival, the departure, or both")
    new_arrived_ms = None if arrived is None else _ms(arrived)
    new_departed_ms = None if departed is None else _ms(departed)
    arrived_ms = visit.arrived_ms if new_arrived_ms is None else new_arrived_ms
    departed_ms = visit.departed_ms if new_departed_ms is None else new_departed_ms
    _require_order(arrived_ms, departed_ms, writer.now_ms)
    _require_free(store, visit.person_id, visit_id, arrived_ms, departed_ms)
    return writer.event(
        CorrectionAction.MOVE, visit_id, visit.person_id, new_arrived_ms, new_departed_ms
    )


def removing(store: Store, writer: Writer, visit_id: str) -> Event:
    """Return the event that takes a visit away.

    Raises:
        AttendanceError: No such visit, or it is taken away already.
    """
    visit = _require_kept(require_visit(store, visit_id))
    return writer.event(CorrectionAction.REMOVE, visit_id, visit.person_id)


def require_visit(store: Store, visit_id: str) -> StoredVisit:
    """Return the visit of that id.

    Raises:
        AttendanceError: There is none.
    """
    visit = store.visit(visit_id)
    if visit is None:
        raise AttendanceError("there is no visit of that id; it may have been deleted")
    return visit


def _require_kept(visit: StoredVisit) -> StoredVisit:
    if visit.is_removed:
        raise AttendanceError("the visit was taken away; add it anew")
    return visit


def _require_order(arrived_ms: int, departed_ms: int | None, now_ms: int) -> None:
    if departed_ms is not None and departed_ms < arrived_ms:
        raise AttendanceError("the departure must not be before the arrival")
    if max(arrived_ms, departed_ms or 0) > now_ms:
        raise AttendanceError("a visit cannot lie in the future")


def _require_free(
    store: Store, person_id: str, visit_id: str, arrived_ms: int, departed_ms: int | None
) -> None:
    """Raise where another visit of the person lies in that time."""
    ends_ms = _FOREVER_MS if departed_ms is None else departed_ms
    others = store.visits(
        "person_id = ? AND visit_id <> ? AND NOT is_removed "
        "AND arrived_ms < ? AND coalesce(departed_ms, ?) > ?",
        (person_id, visit_id, ends_ms, _FOREVER_MS, arrived_ms),
    )
    if others:
        raise AttendanceError(
            "the person has another visit in that time; change or take away that one first"
        )


def _ms(moment: datetime) -> int:
    try:
        return as_ms(moment)
    except ValueError as exc:
        raise AttendanceError(str(exc)) from exc
