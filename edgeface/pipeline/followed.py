"""One track of a stream: what it shows, what is decided about it, what was said."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.decision import DecisionOptions, TrackDecider
from edgeface.pipeline.appearance import Appearance
from edgeface.pipeline.comparing import Comparison
from edgeface.pipeline.interest import (
    NOT_COMPARED,
    ComparisonOptions,
    Interest,
    has_landmarks,
)
from edgeface.pipeline.pad_gate import PadTrack
from edgeface.pipeline.visits import Moment
from edgeface.types import (
    Event,
    EventKind,
    FaceDetection,
    IdentificationResult,
    OperatingPoint,
    Outcome,
    QualityReport,
    Template,
)

__all__ = ["Followed"]

_SURE_S = 0.5
"""A face is shown between two sure looks for at most this long: a head that turned away is still
followed, but is no face."""
_SURE_SCORE = 0.75
"""A detection this sure counts, once, as much as landmarks that were found."""
_FOUND, _NOT_FOUND, _MAX_TRUST, _MIN_TRUST = 2, -1, 4, -2
"""Trust that a track is a face: landmarks found add to it, not found take away; above 0 it is. On
a clip without faces the detector gave 17 tracks, with scores up to 0.9; the landmarker found
landmarks in 4 of these, and again and again in one only."""
_TO_RESET = 2
"""Looks that disagree with the track and agree with one another: one alone may be a bad look."""


@dataclass(frozen=True, slots=True)
class _Pending:
    result: IdentificationResult
    template: Template


class Followed:
    """The state of one track."""

    def __init__(
        self,
        track_id: int,
        decision: DecisionOptions,
        looks: ComparisonOptions,
        point: OperatingPoint,
        pad: PadTrack | None = None,
    ) -> None:
        self.track_id = track_id
        self.pad = pad
        self.decider = TrackDecider(decision)
        self.interest = Interest(looks)
        self.appearance = Appearance(point)
        self.moment = Moment()
        self.newest = NOT_COMPARED
        self.quality: QualityReport | None = None
        self.detection: FaceDetection | None = None
        self.is_missed = False
        self.appeared = False
        self._looks = 0
        self._trust = 0
        self._had_landmarks = False
        self._was_very_sure = False
        self._sure_s: float | None = None
        self._said: tuple[Outcome, str | None] | None = None
        self._pending: list[_Pending] = []

    @property
    def identity(self) -> IdentificationResult | None:
        """Whom the track looks like so far, whether or not that is a person."""
        return self.decider.result

    @property
    def result(self) -> IdentificationResult | None:
        """What the track says so far."""
        return None if self.identity is None else self.gated(self.identity)

    def gated(self, result: IdentificationResult) -> IdentificationResult:
        """Return ``result``, rejected where the face had to pass and has not."""
        return result if self.pad is None else self.pad.gate(result)

    @property
    def is_suspect(self) -> bool:
        """Whether the newest looks disagree with the track."""
        return bool(self._pending)

    def seen(self, detection: FaceDetection, moment: Moment, *, sure: bool) -> None:
        """Note that a face was found for this track."""
        self.detection, self.moment, self.is_missed = detection, moment, False
        if not self._was_very_sure and detection.score >= _SURE_SCORE:
            self._was_very_sure = True
            self._trust = min(_MAX_TRUST, self._trust + _FOUND)
        if sure:
            self._looks += 1
            self._sure_s = moment.time_s

    def doubt(self) -> None:
        """Note that the track may show somebody else: nothing is carried on."""
        self.newest = NOT_COMPARED
        self.interest.doubt()
        self.reset_pad()

    def reset_pad(self) -> None:
        """Note that whoever passed may be gone."""
        if self.pad is not None:
            self.pad.reset()

    def is_shown(self, now_s: float) -> bool:
        """Whether the track is a face now, to the best of knowledge."""
        if self.is_missed or self._sure_s is None or not self.is_face:
            return False
        return now_s - self._sure_s <= _SURE_S

    @property
    def is_face(self) -> bool:
        """Whether the detector and the landmarker take it for a face, taken together."""
        return self._trust > 0

    def compared(self, comparison: Comparison) -> bool:
        """Take the result of a look; return False when the track shows somebody else now.

        A look that disagrees with the track counts only when the next one agrees with it; the
        caller then decides who that is, and calls :meth:`restart`.
        """
        result, template = comparison.result, comparison.template
        found = has_landmarks(result)
        self._had_landmarks |= found
        step = _FOUND if found else _NOT_FOUND
        self._trust = max(_MIN_TRUST, min(_MAX_TRUST, self._trust + step))
        self.newest, self.quality = result, comparison.quality
        if template is None or self.appearance.agrees(template):
            self._pending.clear()
            self._take(result, template)
            return True
        self._pending.append(_Pending(result, template))
        self.interest.doubt()
        return len(self._pending) < _TO_RESET

    def restart(self) -> None:
        """Forget the person; what disagreed is the first evidence for the new one."""
        pending, self._pending = self._pending, []
        self.decider.reset()
        self.appearance.clear()
        self.reset_pad()
        self._said = None
        for entry in pending:
            self._take(entry.result, entry.template)

    def similarity_of_pending(self, other: Followed) -> float | None:
        """Return how alike the face that disagrees with ``other`` is to this track's person."""
        return self.appearance.similarity(other._pending[-1].template) if other._pending else None

    def hand_over(self, other: Followed) -> None:
        """Give the face that disagrees with this track to ``other``, whose face it is."""
        given, self._pending = self._pending, []
        taken, other._pending = other._pending, []
        for receiver, entries in ((other, given), (self, taken)):
            for entry in entries:
                if receiver.appearance.agrees(entry.template):
                    receiver._take(entry.result, entry.template)
        self.newest = self.identity or NOT_COMPARED
        self.interest.doubt()
        self.reset_pad()
        other.reset_pad()

    def events(self, *, confirming_looks: int) -> list[Event]:
        """Return what is new to say about the track in this frame.

        Of a track that is followed that is nothing before landmarks were found; a picture that
        stands alone, with ``confirming_looks`` of 1, has no other chance.
        """
        is_face = self.appeared or (self._had_landmarks and self.is_face)
        if self._looks < confirming_looks or not (is_face or confirming_looks == 1):
            return []
        events = []
        result = self.result
        if not self.appeared:
            self.appeared = True
            events.append(self._event(EventKind.APPEARED, result or self.gated(self.newest)))
        if result is not None and (result.outcome, result.subject) != self._said:
            self._said = (result.outcome, result.subject)
            events.append(self._event(EventKind.IDENTIFIED, result))
        return events

    def left(self, moment: Moment) -> list[Event]:
        """Return what is to be said when the track ends at ``moment``."""
        if not self.appeared:
            return []
        self.moment = moment
        return [self._event(EventKind.LEFT, self.result or self.gated(self.newest))]

    def _take(self, result: IdentificationResult, template: Template | None) -> None:
        if template is not None:
            self.appearance.add(template)
        self.decider.update(result)

    def _event(self, kind: EventKind, result: IdentificationResult) -> Event:
        at = self.moment
        return Event(kind, self.track_id, result, at.time_s, at.frame_index, at.source)
