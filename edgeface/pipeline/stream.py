"""One stream through the pipeline: tracks, evidence over frames, and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeface.decision import DecisionOptions, TrackDecider
from edgeface.pipeline.finding import StageTimer
from edgeface.tracking import Tracker
from edgeface.types import (
    Event,
    EventKind,
    Frame,
    IdentificationResult,
    Observation,
)

__all__ = ["CONFIRMING_FRAMES", "FrameResult", "Stream"]

CONFIRMING_FRAMES = 3
"""Frames a track must be seen in before it is announced: a detector's slip lasts one or two."""

ObserveFrame = Callable[[Frame, StageTimer], list[Observation]]


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame, what was seen in it, what that led to, and the milliseconds by stage."""

    frame: Frame
    observations: tuple[Observation, ...]
    events: tuple[Event, ...]
    times_ms: Mapping[str, float]


@dataclass(slots=True)
class _Track:
    decider: TrackDecider
    frames_seen: int = 0
    appeared: bool = False
    said: tuple[str, str | None] | None = None
    last_frame: Frame | None = None


class Stream:
    """Keeps the state of one source; ``observe`` finds and compares the faces of one frame.

    ``APPEARED`` is said once for each track, when it was seen in ``CONFIRMING_FRAMES`` frames;
    ``IDENTIFIED`` each time what the track says changes; ``LEFT`` when a track that was announced
    ends. With ``stills`` every frame stands alone and is announced at once.
    """

    def __init__(
        self, observe: ObserveFrame, options: DecisionOptions, *, stills: bool = False
    ) -> None:
        self._observe = observe
        self._stills = stills
        self._options = DecisionOptions.single_frame(margin=options.margin) if stills else options
        self._tracker = Tracker()
        self._tracks: dict[int, _Track] = {}

    def process(self, frame: Frame) -> FrameResult:
        """Return what ``frame`` shows and leads to."""
        timer = StageTimer()
        seen = self._observe(frame, timer)
        identities = self._tracker.update([entry.detection for entry in seen])
        events = list(self._end(self._tracker.lost, frame))
        observations = []
        for entry, track_id in zip(seen, identities, strict=True):
            result, happened = self._advance(track_id, entry, frame)
            observations.append(replace(entry, track_id=track_id, track_result=result))
            events += happened
        if self._stills:
            events += self._end(self._tracker.finish(), frame)
        timer.stage("decide")
        return FrameResult(frame, tuple(observations), tuple(events), timer.total_ms)

    def finish(self) -> tuple[Event, ...]:
        """Return the events of the tracks that end with the stream."""
        return self._end(self._tracker.finish(), None)

    def _advance(
        self, track_id: int, entry: Observation, frame: Frame
    ) -> tuple[IdentificationResult | None, list[Event]]:
        track = self._tracks.setdefault(track_id, _Track(TrackDecider(self._options)))
        track.last_frame = frame
        track.frames_seen += 1
        result = track.decider.update(entry.result)
        if not (self._stills or track.frames_seen >= CONFIRMING_FRAMES):
            return result, []
        events = []
        if not track.appeared:
            track.appeared = True
            events.append(_event(EventKind.APPEARED, track_id, result or entry.result, frame))
        if result is not None and (result.outcome.value, result.subject) != track.said:
            track.said = (result.outcome.value, result.subject)
            events.append(_event(EventKind.IDENTIFIED, track_id, result, frame))
        return result, events

    def _end(self, track_ids: Sequence[int], frame: Frame | None) -> tuple[Event, ...]:
        events = []
        for track_id in track_ids:
            track = self._tracks.pop(track_id)
            last, where = track.decider.result, frame or track.last_frame
            if track.appeared and last is not None and where is not None:
                events.append(_event(EventKind.LEFT, track_id, last, where))
        return tuple(events)


def _event(kind: EventKind, track_id: int, result: IdentificationResult, frame: Frame) -> Event:
    return Event(kind, track_id, result, frame.timestamp_s, frame.index, frame.source)
