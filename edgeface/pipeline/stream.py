"""One stream through the pipeline: faces found and followed, evidence over frames, events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from edgeface.decision import DecisionOptions
from edgeface.detection.scanning import FaceScanner, ScanOptions
from edgeface.pipeline.comparing import Comparer, Comparison
from edgeface.pipeline.finding import FaceFinder, FoundFace, StageTimer
from edgeface.pipeline.followed import Followed
from edgeface.pipeline.interest import ComparisonBudget, ComparisonOptions, most_urgent
from edgeface.pipeline.pad_gate import PadGate, most_due
from edgeface.pipeline.scene import SceneWatch
from edgeface.pipeline.visits import Moment, Presence, VisitBook, VisitOptions
from edgeface.quality import QualityGateOptions
from edgeface.tracking import Tracker, TrackerOptions
from edgeface.types import (
    BoundingBox,
    Event,
    FaceDetection,
    Frame,
    Observation,
    Outcome,
    Template,
)

__all__ = ["CONFIRMING_LOOKS", "FrameResult", "Pending", "Stream", "StreamOptions"]

Value = TypeVar("Value")

CONFIRMING_LOOKS = 3
"""Looks in which a track must be seen before it is said: a detector's slip lasts one or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is searched, followed, compared and told; see the parts."""

    scan: ScanOptions = field(default_factory=ScanOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    comparison: ComparisonOptions = field(default_factory=ComparisonOptions)
    visits: VisitOptions = field(default_factory=VisitOptions)

    @classmethod
    def every_frame(cls) -> StreamOptions:
        """Return the options that search every frame whole and compare every face in it."""
        scan = ScanOptions(sweep_s=0.0, follow_s=0.0)
        return cls(scan=scan, comparison=ComparisonOptions.every_frame())

    @classmethod
    def door(cls) -> StreamOptions:
        """Return the options for a door: every frame searched whole, ten comparisons a second.

        A policy of :mod:`edgeface.access` wants five of seven compared frames over 0.4 s or more,
        none older than 3 s, and nobody beside the one: the usual comparison a second is too few.
        """
        comparison = ComparisonOptions(
            per_second=20.0, urgent_s=0.1, retry_s=0.1, refresh_s=0.1, better=1.0
        )
        return cls(scan=ScanOptions(sweep_s=0.0, follow_s=0.0), comparison=comparison)


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame, what was seen in it, what that led to, and the milliseconds by stage.

    ``stream`` is the position of the source among those that are watched together. ``usable`` is
    False where the camera's health speaks against deciding on the frame: nobody is looked for in
    it, so that a frozen picture ends tracks and visits as an empty one does. ``templates`` are
    those that were compared in this frame, by track.
    """

    frame: Frame
    observations: tuple[Observation, ...]
    events: tuple[Event, ...]
    times_ms: Mapping[str, float]
    stream: int = 0
    usable: bool = True
    templates: Mapping[int, Template] = field(default_factory=dict)


@dataclass(slots=True)
class Pending:
    """A frame in which faces were found, and those of them that are to be compared."""

    frame: Frame
    moment: Moment
    timer: StageTimer
    seen: dict[int, FaceDetection]
    looks: dict[int, FoundFace]
    expected: Mapping[int, BoundingBox]
    events: list[Event]
    usable: bool = True

    @property
    def faces(self) -> list[FoundFace]:
        """The faces to compare."""
        return list(self.looks.values())


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What a stream works with; the budget and the visits may be shared by several."""

    finder: FaceFinder
    comparer: Comparer
    scanner: FaceScanner
    quality: QualityGateOptions
    budget: ComparisonBudget
    visits: VisitBook
    pad: PadGate | None = None
    pad_budget: ComparisonBudget | None = None
    is_usable: Callable[[], bool] | None = None


class Stream:
    """Keeps the state of one source.

    ``APPEARED`` is said once for each track, when it was seen in ``CONFIRMING_LOOKS`` looks;
    ``IDENTIFIED`` each time what the track says changes; ``LEFT`` when a track that was announced
    ends. ``ARRIVED`` and ``DEPARTED`` are said once for each visit of a known subject. With
    ``stills`` every frame stands alone, is compared whole and announced at once, and there are
    no visits. With PAD nobody is named before their face passed.
    """

    def __init__(
        self,
        parts: StreamParts,
        options: StreamOptions,
        decision: DecisionOptions,
        *,
        stills: bool = False,
    ) -> None:
        self._parts = parts
        self._stills = stills
        self._options = options
        self._decision = (
            DecisionOptions.single_frame(margin=decision.margin) if stills else decision
        )
        self._tracker = Tracker(options.tracker)
        self._followed: dict[int, Followed] = {}
        self._moment = Moment(-math.inf)
        self._scene = SceneWatch()

    def process(self, frame: Frame) -> FrameResult:
        """Return what ``frame`` shows and leads to."""
        pending = self.prepare(frame)
        return self.complete(pending, self._parts.comparer.compare(pending.faces, pending.timer))

    def prepare(self, frame: Frame) -> Pending:
        """Return the faces of ``frame``; :meth:`complete` must follow before the next frame."""
        timer = StageTimer()
        now_s = max(self._moment.time_s, frame.timestamp_s)
        moment = self._moment = Moment(now_s, frame.index, frame.source)
        expected = self._tracker.expected(now_s)
        usable = self._parts.is_usable is None or self._parts.is_usable()
        looked, detections = self._search(frame, expected, usable=usable)
        timer.stage("detect")
        numbers = self._tracker.follow(detections, time_s=now_s, looked=looked)
        seen = {n: d for n, d in zip(numbers, detections, strict=True) if n is not None}
        events = self._end(self._tracker.lost, moment)
        for number in looked & self._followed.keys() - seen.keys():
            self._followed[number].is_missed = True
        # What was seen before a stretch that cannot be judged says nothing about after it.
        if not usable or self._scene.is_cut(frame):
            for followed in self._followed.values():
                followed.doubt()
        for number, detection in seen.items():
            self._follow(number, detection, moment)
        timer.stage("track")
        looks = self._look_closer(frame, seen, now_s, timer)
        self._judge_pad(frame, seen, looks, now_s)
        timer.stage("pad")
        expected = self._tracker.expected(now_s)
        return Pending(frame, moment, timer, seen, looks, expected, events, usable)

    def complete(self, pending: Pending, comparisons: Sequence[Comparison]) -> FrameResult:
        """Return what the frame shows and leads to, given a comparison for each of its faces."""
        fresh: dict[int, Template | None] = {}
        # An exchange of two tracks changes what is seen of which.
        looks = [(number, pending.seen[number]) for number in pending.looks]
        for (number, detection), comparison in zip(looks, comparisons, strict=True):
            fresh[self._learn(number, detection, comparison, pending)] = comparison.template
        observations, events = [], pending.events
        for number, followed in sorted(self._followed.items()):
            if self._stills or followed.is_shown(pending.moment.time_s):
                observations.append(_observe(followed, pending, is_carried=number not in fresh))
            if number in pending.seen:
                events += followed.events(confirming_looks=1 if self._stills else CONFIRMING_LOOKS)
        events += self._visits(pending.moment)
        if self._stills:
            events += self._end(self._tracker.finish(), pending.moment)
        pending.timer.stage("decide")
        return FrameResult(
            pending.frame,
            tuple(observations),
            tuple(events),
            pending.timer.total_ms,
            usable=pending.usable,
            templates={number: made for number, made in fresh.items() if made is not None},
        )

    def finish(self, *, end_visits: bool = True) -> tuple[Event, ...]:
        """Return the events of the tracks and visits that end with the stream."""
        events = self._end(self._tracker.finish(), self._moment)
        return (*events, *(self._parts.visits.finish() if end_visits else ()))

    def _search(
        self, frame: Frame, expected: Mapping[int, BoundingBox], *, usable: bool
    ) -> tuple[frozenset[int], list[FaceDetection]]:
        """Return the tracks that were looked for, and the faces that were found."""
        if not usable:
            return frozenset(expected), []
        scan = self._parts.scanner.scan(frame, expected)
        return scan.looked, self._parts.finder.largest(scan.detections)

    def _follow(self, number: int, detection: FaceDetection, moment: Moment) -> None:
        followed = self._followed.get(number)
        if followed is None:
            pad = self._parts.pad
            followed = self._followed[number] = Followed(
                number,
                self._decision,
                self._options.comparison,
                self._parts.comparer.point,
                None if pad is None else pad.track(stills=self._stills),
            )
        sure = detection.score >= self._options.tracker.min_new_score
        followed.seen(detection, moment, sure=sure)
        if number in self._tracker.doubtful:
            followed.interest.doubt()
            followed.reset_pad()

    def _look_closer(
        self, frame: Frame, seen: Mapping[int, FaceDetection], now_s: float, timer: StageTimer
    ) -> dict[int, FoundFace]:
        """Return the faces that are to be compared, by track."""
        urgencies = {
            number: self._followed[number].interest.urgency(
                detection, self._followed[number].identity, now_s
            )
            for number, detection in seen.items()
        }
        budget = self._parts.budget
        chosen = list(seen) if self._stills else most_urgent(urgencies, budget, now_s)
        found = self._parts.finder.find(
            frame, self._parts.quality, detections=[seen[n] for n in chosen], timer=timer
        )
        looks = {}
        for number, face in zip(chosen, found, strict=True):
            followed = self._followed[number]
            quality = face.quality.score if face.quality else 0.0
            if followed.interest.is_worth_embedding(quality, followed.identity, now_s):
                looks[number] = face
            else:
                followed.interest.looked(seen[number], None, quality, now_s)
        return looks

    def _judge_pad(
        self,
        frame: Frame,
        seen: Mapping[int, FaceDetection],
        looks: Mapping[int, FoundFace],
        now_s: float,
    ) -> None:
        """Score those faces whose turn it is, and who may be somebody."""
        budget = self._parts.pad_budget
        if self._parts.pad is None or budget is None:
            return
        tracks = {
            number: pad
            for number in seen
            if (pad := self._followed[number].pad) is not None
            and not _is_stranger(self._followed[number])
        }
        for number in tracks if self._stills else most_due(tracks, budget, now_s):
            look = looks.get(number)
            landmarks = look.landmarks if look is not None else None
            tracks[number].score(frame, seen[number], landmarks)

    def _learn(
        self, number: int, detection: FaceDetection, comparison: Comparison, pending: Pending
    ) -> int:
        """Take a comparison; return the track that it counts for in the end."""
        followed = self._followed[number]
        quality = comparison.quality.score if comparison.quality else 0.0
        followed.interest.looked(detection, comparison.result, quality, pending.moment.time_s)
        if followed.compared(comparison):
            if followed.is_suspect or _names_another(followed, comparison):
                followed.interest.doubt()
            return number
        owner = self._owner_of(followed)
        if owner is None:
            followed.restart()
            return number
        self._exchange(followed, owner, pending)
        return owner.track_id

    def _owner_of(self, followed: Followed) -> Followed | None:
        """Return the track whose person the face that disagrees with ``followed`` is."""
        alike = [
            (score, other)
            for other in self._followed.values()
            if other is not followed
            and (score := other.similarity_of_pending(followed)) is not None
            and score >= self._parts.comparer.point.threshold
            and (other.is_missed or other.is_suspect)
        ]
        return max(alike, key=lambda pair: pair[0])[1] if alike else None

    def _exchange(self, followed: Followed, owner: Followed, pending: Pending) -> None:
        """Give two tracks that changed faces each other's boxes, so that numbers stay."""
        one, other = followed.track_id, owner.track_id
        self._tracker.swap(one, other)
        followed.hand_over(owner)
        owner.newest = owner.identity or owner.newest
        followed.detection, owner.detection = owner.detection, followed.detection
        followed.is_missed, owner.is_missed = owner.is_missed, followed.is_missed
        owner.quality, followed.quality = followed.quality, None
        _swap(pending.seen, one, other)
        _swap(pending.looks, one, other)

    def _visits(self, moment: Moment) -> tuple[Event, ...]:
        if self._stills:
            return ()
        present: dict[str, Presence] = {}
        for number, followed in sorted(self._followed.items()):
            result = followed.result
            if (
                followed.appeared
                and not followed.is_missed
                and result is not None
                and result.outcome is Outcome.KNOWN
                and result.subject is not None
            ):
                present.setdefault(result.subject, Presence(number, result))
        return self._parts.visits.update(present, moment)

    def _end(self, numbers: Sequence[int], moment: Moment) -> list[Event]:
        events = []
        for number in numbers:
            followed = self._followed.pop(number, None)
            events += followed.left(moment) if followed is not None else []
        return events


def _swap(table: dict[int, Value], one: int, other: int) -> None:
    """Exchange what two keys hold; what one lacks, the other lacks then."""
    swapped = {one: table.pop(other, None), other: table.pop(one, None)}
    table.update({key: value for key, value in swapped.items() if value is not None})


def _names_another(followed: Followed, comparison: Comparison) -> bool:
    """Return whether a frame names somebody whom the track does not name."""
    subject = comparison.result.subject
    said = followed.identity
    return subject is not None and (said is None or said.subject != subject)


def _is_stranger(followed: Followed) -> bool:
    """Return whether the track says that it is nobody who is enrolled."""
    said = followed.identity
    return said is not None and said.outcome is Outcome.UNKNOWN


def _observe(followed: Followed, pending: Pending, *, is_carried: bool) -> Observation:
    number = followed.track_id
    detection = pending.seen.get(number)
    if detection is None:
        last = followed.detection
        score = last.score if last is not None else 0.0
        detection = FaceDetection(pending.expected[number], score)
    look = pending.looks.get(number)
    return Observation(
        detection,
        followed.gated(followed.newest),
        followed.quality,
        look.landmarks if look is not None else None,
        track_id=number,
        track_result=followed.result,
        is_carried=is_carried,
        pad=None if followed.pad is None else followed.pad.decision,
    )
