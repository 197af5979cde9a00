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
    FaceDetection,
    Frame,
    IdentificationResult,
    Observation,
)

__all__ = ["FrameResult", "Stream"]

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
    announced: tuple[str, str | None] | None = None
    last_frame: Frame | None = None


class Stream:
    """Keeps the state of one source; ``observe`` finds and compares the faces of one frame.

    ``APPEARED`` is said once for each track, ``IDENTIFIED`` each time what the track says
    changes, ``LEFT`` when it ends. With ``stills`` every frame stands alone.
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
        identities = self._tracker.update([_detection(entry) for entry in seen])
        ended = self._end(self._tracker.lost, frame)
        observations, events = [], []
        for entry, track_id in zip(seen, identities, strict=True):
            result, happened = self._advance(track_id, entry, frame)
            observations.append(replace(entry, track_id=track_id, track_result=result))
            events += happened
        if self._stills:
            ended += self._end(self._tracker.finish(), frame)
        timer.stage("decide")
        return FrameResult(frame, tuple(observations), (*ended, *events), timer.total_ms)

    def finish(self) -> tuple[Event, ...]:
        """Return the events of the tracks that end with the stream."""
        return self._end(self._tracker.finish(), None)

    def _advance(
        self, track_id: int, entry: Observation, frame: Frame
    ) -> tuple[IdentificationResult | None, list[Event]]:
        events = []
        if track_id not in self._tracks:
            self._tracks[track_id] = _Track(TrackDecider(self._options))
            events.append(_event(EventKind.APPEARED, track_id, entry.result, frame))
        track = self._tracks[track_id]
        track.last_frame = frame
        result = track.decider.update(entry.result)
        if result is not None:
            said = (result.outcome.value, result.subject)
            if said != track.announced:
                track.announced = said
                events.append(_event(EventKind.IDENTIFIED, track_id, result, frame))
        return result, events

    def _end(self, track_ids: Sequence[int], frame: Frame | None) -> tuple[Event, ...]:
        events = []
        for track_id in track_ids:
            track = self._tracks.pop(track_id)
            last = track.decider.result
            where = frame or track.last_frame
            if last is not None and where is not None:
                events.append(_event(EventKind.LEFT, track_id, last, where))
        return tuple(events)


def _detection(observation: Observation) -> FaceDetection:
    return observation.detection


def _event(kind: EventKind, track_id: int, result: IdentificationResult, frame: Frame) -> Event:
    return Event(kind, track_id, result, frame.timestamp_s, frame.index, frame.source)
