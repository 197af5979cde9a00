"""Events as others are told them: pages, and sinks."""

from __future__ import annotations

from datetime import datetime

from examples.attendance.journal import Event, EventKind
from examples.attendance.rules import new_id
from examples.attendance.times import Instant, as_utc
from examples.attendance.values import ChangeKind, LiveEvent, NameDisplay, Person, Settings

__all__ = ["iso", "live_event", "overlay_label", "payload_of"]

_KINDS = {
    EventKind.ARRIVED: ChangeKind.ARRIVED,
    EventKind.DEPARTED: ChangeKind.DEPARTED,
    EventKind.CORRECTION: ChangeKind.CORRECTED,
    EventKind.UNKNOWN: ChangeKind.UNKNOWN,
    EventKind.FORGOTTEN: ChangeKind.PEOPLE,
}


def live_event(event: Event | None, now: Instant) -> LiveEvent:
    """Return an event for pages; None says that the office shuts down."""
    if event is None:
        return LiveEvent(new_id(), ChangeKind.CLOSED, as_utc(now.utc_ms))
    other = ChangeKind.SETTINGS if event.reason == "settings" else ChangeKind.PEOPLE
    return LiveEvent(
        id=event.id,
        kind=_KINDS.get(event.kind, other),
        at_utc=as_utc(event.at_ms),
        person_id=event.person_id,
        visit_id=event.visit_id,
        camera=event.camera,
        method=event.method,
    )


def payload_of(
    event: Event, label: tuple[int, str] | None, settings: Settings
) -> dict[str, object]:
    """Return an event for a sink, as JSON.

    ``label`` is the person's number and name, None for nobody or somebody forgotten; the name is
    given only where the settings allow it.
    """
    number, name = label or (None, None)
    payload: dict[str, object] = {
        "id": event.id,
        "kind": event.kind.value,
        "at": iso(event.at_ms),
        "local": as_utc(event.at_ms).astimezone(settings.zone).isoformat(timespec="seconds"),
        "recorded": iso(event.recorded_ms),
        "person_id": event.person_id,
        "number": number,
        "visit_id": event.visit_id,
        "camera": event.camera,
        "method": event.method.value if event.method else None,
    }
    if settings.names_in_sinks and name is not None:
        payload["name"] = name
    if event.kind is EventKind.CORRECTION and event.action is not None:
        payload["action"] = event.action.value
        payload["arrived"] = None if event.arrived_ms is None else iso(event.arrived_ms)
        payload["departed"] = None if event.departed_ms is None else iso(event.departed_ms)
    return payload


def overlay_label(person: Person | None, settings: Settings) -> str:
    """Return what the picture calls a person.

    There is one picture for all who look: where the public may, it says no more than the public
    display does.
    """
    if person is None:
        return "..."
    if not settings.overlay_public or settings.display_names is NameDisplay.FULL:
        return person.name
    if settings.display_names is NameDisplay.FIRST:
        return person.first_name
    return f"No. {person.number}"


def iso(ms: int) -> str:
    """Return a moment in UTC, ISO 8601 with milliseconds."""
    moment: datetime = as_utc(ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
