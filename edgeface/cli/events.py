"""How events are printed."""

from __future__ import annotations

from typing import Any

from edgeface.types import Event, Visit

__all__ = ["event_as_dict", "event_as_text"]


def event_as_dict(event: Event) -> dict[str, Any]:
    """Return ``event`` for JSON."""
    return {
        "type": "event",
        "event": event.kind.value,
        "track": event.track_id,
        "outcome": event.outcome.value,
        "subject": event.subject,
        "score": None if event.score is None else round(event.score, 4),
        "reasons": [reason.value for reason in event.result.reasons],
        "time_s": round(event.timestamp_s, 3),
        "frame": event.frame_index,
        "source": event.source,
        "visit": None if event.visit is None else _visit_as_dict(event.visit),
    }


def _visit_as_dict(visit: Visit) -> dict[str, Any]:
    return {
        "number": visit.number,
        "arrived_s": round(visit.arrived_s, 3),
        "last_seen_s": round(visit.last_seen_s, 3),
    }


def event_as_text(event: Event) -> str:
    """Return ``event`` as a line for people."""
    who = event.subject or event.outcome.value
    score = "" if event.score is None else f"  similarity {event.score:.2f}"
    reasons = ", ".join(reason.value for reason in event.result.reasons)
    return (
        f"{event.timestamp_s:9.2f} s  face {event.track_id:<4} {event.kind.value:<11} {who}"
        f"{score}{'  ' + reasons if reasons else ''}"
    )
