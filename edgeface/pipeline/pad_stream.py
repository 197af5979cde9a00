"""Presentation attack detection over the faces of a source: tracks, windows, decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.detection.sanity import landmarks_are_plausible
from edgeface.pad import (
    PadDecision,
    PadOperatingPoint,
    PadReason,
    PadScore,
    PadWindow,
    PadWindowOptions,
    PresentationAttackDetector,
    StillnessCheck,
    StillnessReport,
    combine,
)
from edgeface.tracking import Tracker
from edgeface.types import FaceDetection, FaceLandmarks, Frame

__all__ = ["PadFace", "PadParts", "PadPresentation", "PadStream", "present"]


@dataclass(frozen=True, slots=True, eq=False)
class PadParts:
    """What a stream is judged with.

    With ``landmark_finder`` streams are also asked whether a face is too constant; without one
    they are not.
    """

    detector: FaceDetector
    assessor: PresentationAttackDetector
    operating_point: PadOperatingPoint
    landmark_finder: LandmarkFinder | None = None
    window: PadWindowOptions | None = None

    def close(self) -> None:
        """Free the models; may be called twice."""
        self.detector.close()
        self.assessor.close()
        if self.landmark_finder is not None:
            self.landmark_finder.close()


@dataclass(frozen=True, slots=True, eq=False)
class PadFace:
    """One face of one frame.

    ``score`` is that of this frame alone, None where it could not be scored; ``decision`` is what
    its whole track says so far. ``stillness`` is None where it was not asked for, or not yet said.
    """

    detection: FaceDetection
    track_id: int
    score: PadScore | None
    decision: PadDecision
    stillness: StillnessReport | None = None


@dataclass(slots=True)
class _Track:
    window: PadWindow
    stillness: StillnessCheck


class PadStream:
    """Keeps the state of one source. With ``stills`` every frame stands alone."""

    def __init__(self, parts: PadParts, *, stills: bool = False) -> None:
        self._parts = parts
        self._stills = stills
        self._options = PadWindowOptions.single_frame() if stills else parts.window
        self._tracker = Tracker()
        self._tracks: dict[int, _Track] = {}

    def process(self, frame: Frame) -> list[PadFace]:
        """Return the faces of ``frame``, the largest first; its time is the clock.

        Raises:
            BackendError: An engine failed.
        """
        found = sorted(self._parts.detector.detect(frame), key=lambda face: -face.box.area_px)
        identities = self._tracker.update(found)
        # What was seen of one person must not let another pass who has taken over the track.
        for number in (*self._tracker.lost, *self._tracker.doubtful):
            self._tracks.pop(number, None)
        faces = [
            self._judge(frame, face, track) for face, track in zip(found, identities, strict=True)
        ]
        if self._stills:
            self._tracker.finish()
            self._tracks.clear()
        return faces

    def _judge(self, frame: Frame, face: FaceDetection, track_id: int) -> PadFace:
        if track_id not in self._tracks:
            window = PadWindow(self._parts.operating_point, self._options)
            self._tracks[track_id] = _Track(window, StillnessCheck())
        track = self._tracks[track_id]
        score = self._parts.assessor.assess(frame, face)
        decision = track.window.update(score, frame.timestamp_s)
        if self._parts.landmark_finder is not None and not self._stills:
            landmarks = _landmarks(self._parts.landmark_finder, frame, face)
            decision = combine(
                decision, track.stillness.update(frame, landmarks, frame.timestamp_s)
            )
        return PadFace(face, track_id, score, decision, track.stillness.report)


def _landmarks(finder: LandmarkFinder, frame: Frame, face: FaceDetection) -> FaceLandmarks | None:
    found = finder.find(frame, face)
    if found is None or not landmarks_are_plausible(found.points_px, face.box):
        return None
    return found


@dataclass(frozen=True, slots=True)
class PadPresentation:
    """What one recording led to.

    ``score`` is the highest that any of its windows reached: whoever presents something tries
    until it is accepted. None is a non-response: no face, or never enough frames of it, or with a
    landmark finder a face that was too constant throughout. ``frames`` counts the frames read.
    """

    score: float | None
    frames: int


def present(parts: PadParts, frames: Iterable[Frame], *, stills: bool = False) -> PadPresentation:
    """Return what the largest face of each of ``frames`` led to.

    Raises:
        CameraError: The source of the frames failed.
        BackendError: An engine failed.
    """
    stream, scores, count = PadStream(parts, stills=stills), [], 0
    for frame in frames:
        count += 1
        scores += [_settled(face.decision) for face in stream.process(frame)[:1]]
    answered = [score for score in scores if score is not None]
    return PadPresentation(max(answered, default=None), count)


def _settled(decision: PadDecision) -> float | None:
    """Return the score of a decision that rests on the networks and on enough frames."""
    settled = decision.passed or decision.reasons == (PadReason.LOOKS_LIKE_ATTACK,)
    return decision.score if settled else None
