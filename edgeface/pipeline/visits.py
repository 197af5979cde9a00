"""Visits of known subjects: one arrival and one departure each, however often a track breaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeface.errors import InvalidInputError
from edgeface.types import Event, EventKind, IdentificationResult, Visit

__all__ = ["Moment", "Presence", "VisitBook", "VisitOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitOptions:
    """``absence_s``: who is seen again within this time has not left; attendance wants minutes."""

    absence_s: float = 5.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.absence_s) and self.absence_s >= 0.0):
            raise InvalidInputError(
                f"absence_s must be finite and at least 0, got {self.absence_s}"
            )


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a frame was taken."""

    time_s: float = 0.0
    frame_index: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """A track that says a known subject."""

    track_id: int
    result: IdentificationResult


@dataclass(frozen=True, slots=True)
class _Open:
    visit: Visit
    presence: Presence


class VisitBook:
    """Knows who is there. Several streams may share one: a subject is then there once for all."""

    def __init__(self, options: VisitOptions | None = None) -> None:
        self._options = options or VisitOptions()
        self._open: dict[str, _Open] = {}
        self._count = 0
        self._last = Moment(-math.inf)

    @property
    def present(self) -> tuple[Visit, ...]:
        """The visits that are not over, in the order of arrival."""
        return tuple(entry.visit for entry in self._open.values())

    def update(self, present: Mapping[str, Presence], moment: Moment) -> tuple[Event, ...]:
        """Return the departures and arrivals that a frame leads to.

        ``present`` are the subjects that tracks in view say. Time never goes back: an earlier
        moment is taken for the last one.
        """
        now_s = max(self._last.time_s, moment.time_s)
        moment = self._last = replace(moment, time_s=now_s)
        events = [
            self._close(subject, moment)
            for subject, entry in list(self._open.items())
            if subject not in present and now_s - entry.visit.last_seen_s > self._options.absence_s
        ]
        for subject, presence in present.items():
            entry = self._open.get(subject)
            if entry is None:
                self._count += 1
                visit = Visit(subject, self._count, now_s, now_s)
                self._open[subject] = _Open(visit, presence)
                events.append(_event(EventKind.ARRIVED, self._open[subject], moment))
            else:
                visit = replace(entry.visit, last_seen_s=now_s)
                self._open[subject] = _Open(visit, presence)
        return tuple(events)

    def finish(self) -> tuple[Event, ...]:
        """Return the departures of all who are still there: nobody watches any more."""
        return tuple(self._close(subject, self._last) for subject in list(self._open))

    def _close(self, subject: str, moment: Moment) -> Event:
        return _event(EventKind.DEPARTED, self._open.pop(subject), moment)


def _event(kind: EventKind, entry: _Open, moment: Moment) -> Event:
    return Event(
        kind,
        entry.presence.track_id,
        entry.presence.result,
        moment.time_s,
        moment.frame_index,
        moment.source,
        visit=entry.visit,
    )
