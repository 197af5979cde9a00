"""What a decision on a door is made from: frames, facts, factors, times, state. All frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from edgeface._pad_words import PadDecision
from edgeface.camera.health import CameraHealth
from edgeface.types import (
    Frame,
    IdentificationResult,
    Observation,
    OperatingPoint,
    Outcome,
    QualityMeasure,
)

if TYPE_CHECKING:
    from edgeface.access.policy import AccessPolicy

__all__ = [
    "AccessInputs",
    "AccessState",
    "FactorKind",
    "FrameEvidence",
    "ModelFacts",
    "VerifiedFactor",
    "WallTime",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEvidence:
    """What one frame says about who stands at the door.

    ``captured_s`` is on the monotonic clock. ``faces`` counts the people in the frame. The rest is
    about the largest face: ``is_compared`` is false where the frame added nothing, and then
    ``subject``, ``score`` and ``rival`` are None. ``subject`` is whom this frame alone names,
    ``score`` its similarity, ``rival`` that of the best other subject. ``pad`` is what
    presentation attack detection says now, over its own window. ``eyes_open`` is as in
    docs/quality.md, None where it was not measured.
    """

    captured_s: float
    faces: int
    track_id: int | None = None
    is_compared: bool = False
    subject: str | None = None
    score: float | None = None
    rival: float | None = None
    pad: PadDecision | None = None
    eyes_open: float | None = None

    @classmethod
    def of(
        cls,
        frame: Frame,
        observations: Sequence[Observation],
        *,
        ignore_faces_below: float = 0.0,
        captured_s: float | None = None,
    ) -> FrameEvidence:
        """Return what ``frame`` says, given what was seen in it.

        ``captured_s`` stands for the frame's own time, where that is a place in a recording.
        """
        at_s = frame.timestamp_s if captured_s is None else captured_s
        if not observations:
            return cls(captured_s=at_s, faces=0)
        areas = [observation.detection.box.area_px for observation in observations]
        largest = max(areas)
        faces = sum(area >= ignore_faces_below * largest for area in areas)
        return cls._of_face(at_s, faces, observations[areas.index(largest)])

    @classmethod
    def _of_face(cls, at_s: float, faces: int, face: Observation) -> FrameEvidence:
        result = face.result
        compared = not face.is_carried and result.outcome is not Outcome.REJECTED
        measures = face.quality.values if face.quality is not None and compared else {}
        return cls(
            captured_s=at_s,
            faces=faces,
            track_id=face.track_id,
            is_compared=compared,
            subject=result.subject if compared else None,
            score=result.score if compared else None,
            rival=_rival(result) if compared else None,
            pad=face.pad,
            eyes_open=measures.get(QualityMeasure.EYES_OPEN),
        )


def _rival(result: IdentificationResult) -> float | None:
    others = [entry.score for entry in result.candidates if entry.subject != result.subject]
    return max(others, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What recognises, with which threshold, and among how many.

    ``operating_point`` must be the one that the scores are judged by here.
    """

    model_id: str
    operating_point: OperatingPoint
    gallery_size: int
    gallery_model_id: str
    is_demonstration: bool


class FactorKind(str, Enum):
    """What a second factor is."""

    TOTP = "totp"
    PIN = "pin"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFactor:
    """A second factor that was right: whose, of what kind, when on the monotonic clock.

    ``is_duress`` marks a PIN that asks for help; nothing that is shown may tell.
    """

    subject: str
    kind: FactorKind
    at_s: float
    is_duress: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class WallTime:
    """The time of day, aware, and why it is not to be believed; empty where it is."""

    moment: datetime
    doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessState:
    """What is known of the door from before.

    ``fault`` says what is broken; any fault keeps the door closed. ``wait_s`` is how long
    everything is still held up. ``is_face_off`` is true until somebody gives a second factor.
    ``barred_tracks`` were seen to be an attack; ``consumed_s`` is the time up to which frames were
    used for an earlier decision. ``inside`` are the subjects who came in and did not leave.
    """

    fault: str = ""
    wait_s: float = 0.0
    failures: int = 0
    is_face_off: bool = False
    barred_tracks: frozenset[int] = frozenset()
    consumed_s: float = float("-inf")
    inside: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessInputs:
    """What is known now.

    ``now_s`` is the monotonic clock. ``frames`` are the newest, oldest first. ``camera`` is None
    for a source that is no camera. ``intent_s`` is when the button was pressed last, None if it
    was not. ``wall`` is None where no schedule needs it and none was read.
    """

    now_s: float
    frames: tuple[FrameEvidence, ...] = ()
    camera: CameraHealth | None = None
    model: ModelFacts | None = None
    factor: VerifiedFactor | None = None
    intent_s: float | None = None
    wall: WallTime | None = None


Facts = Callable[["AccessPolicy"], ModelFacts]
"""Gives the facts anew for each decision: galleries grow."""

Detail = Mapping[str, str | int | float | bool]
