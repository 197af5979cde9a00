"""From measured values to reasons, and from reasons to sentences for the person."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeface.quality.options import QualityGateOptions
from edgeface.types import QualityMeasure, RejectionReason

__all__ = ["advice", "failed_gates"]


@dataclass(frozen=True, slots=True)
class _Gate:
    """One measure between two limits; None is no limit."""

    measure: QualityMeasure
    low: float | None
    high: float | None
    reason: RejectionReason


def failed_gates(
    values: Mapping[QualityMeasure, float], score: float, options: QualityGateOptions
) -> tuple[RejectionReason, ...]:
    """Return the reasons in a fixed order, each once.

    ``values`` hold NaN for a measure that failed, which fails its gate, and nothing for one that
    was not taken; see :class:`QualityGateOptions` for these.
    """
    failed = [gate.reason for gate in _gates(options) if _fails(gate, values, options)]
    if options.min_score is not None and not score >= options.min_score:
        failed.append(RejectionReason.LOW_QUALITY)
    return tuple(dict.fromkeys(failed))


def advice(reason: RejectionReason) -> str:
    """Return one short sentence that tells the person in front of the camera what to do."""
    return _ADVICE[reason]


def _fails(
    gate: _Gate, values: Mapping[QualityMeasure, float], options: QualityGateOptions
) -> bool:
    if gate.low is None and gate.high is None:
        return False
    if gate.measure not in values:
        return options.refuse_unmeasured
    low = -math.inf if gate.low is None else gate.low
    high = math.inf if gate.high is None else gate.high
    # A comparison with NaN is false, and an infinite value is no measurement.
    value = values[gate.measure]
    return not (math.isfinite(value) and low <= value <= high)


def _gates(o: QualityGateOptions) -> Iterator[_Gate]:
    m, r = QualityMeasure, RejectionReason
    yield _Gate(m.DETECTION_SCORE, o.min_detection_score, None, r.DETECTION_UNSURE)
    yield _Gate(m.SINGLE_FACE, None, o.max_other_face, r.SEVERAL_FACES)
    yield _Gate(m.EYE_DISTANCE, o.min_eye_distance_px, None, r.TOO_SMALL)
    yield _Gate(m.HEAD_SIZE, None, o.max_head_size, r.TOO_CLOSE)
    yield _Gate(m.INSIDE_FRAME, o.min_inside_frame, None, r.OUTSIDE_FRAME)
    yield _Gate(m.LEFTWARD_CROP, o.min_side_margin, None, r.OUTSIDE_FRAME)
    yield _Gate(m.RIGHTWARD_CROP, o.min_side_margin, None, r.OUTSIDE_FRAME)
    yield _Gate(m.MARGIN_ABOVE, o.min_margin_above, None, r.OUTSIDE_FRAME)
    yield _Gate(m.MARGIN_BELOW, o.min_margin_below, None, r.OUTSIDE_FRAME)
    yield _Gate(m.YAW, -o.max_yaw_deg, o.max_yaw_deg, r.TURNED_AWAY)
    yield _Gate(m.PITCH, -o.max_pitch_deg, o.max_pitch_deg, r.TURNED_AWAY)
    yield _Gate(m.ROLL, -o.max_roll_deg, o.max_roll_deg, r.TILTED)
    yield _Gate(m.LUMINANCE, o.min_luminance, None, r.TOO_DARK)
    yield _Gate(m.UNDER_EXPOSURE, None, o.max_under_exposure, r.TOO_DARK)
    yield _Gate(m.LUMINANCE, None, o.max_luminance, r.TOO_BRIGHT)
    yield _Gate(m.OVER_EXPOSURE, None, o.max_over_exposure, r.TOO_BRIGHT)
    yield _Gate(m.DYNAMIC_RANGE, o.min_dynamic_range, None, r.LOW_CONTRAST)
    yield _Gate(m.ILLUMINATION_UNIFORMITY, o.min_illumination_uniformity, None, r.UNEVEN_LIGHT)
    yield _Gate(m.NATURAL_COLOUR, None, o.max_colour_distance, r.UNNATURAL_COLOUR)
    yield _Gate(m.SHARPNESS, o.min_sharpness, None, r.TOO_BLURRED)
    yield _Gate(m.EYES_OPEN, o.min_eyes_open, None, r.EYES_CLOSED)
    yield _Gate(m.MOUTH_CLOSED, None, o.max_mouth_opening, r.MOUTH_OPEN)


_ADVICE = {
    RejectionReason.NO_FACE: "Look into the camera.",
    RejectionReason.SEVERAL_FACES: "Only one person at a time, please.",
    RejectionReason.LANDMARKS_NOT_FOUND: "Show your whole face.",
    RejectionReason.LANDMARKS_IMPLAUSIBLE: "Show your whole face and hold still.",
    RejectionReason.DETECTION_UNSURE: "Come closer and look into the camera.",
    RejectionReason.TOO_SMALL: "Come closer.",
    RejectionReason.TOO_CLOSE: "Step back a little.",
    RejectionReason.TOO_BLURRED: "Hold still, and clean the lens if it stays blurred.",
    RejectionReason.TOO_DARK: "More light on your face, please.",
    RejectionReason.TOO_BRIGHT: "Less light on your face, please.",
    RejectionReason.LOW_CONTRAST: "Avoid glare and haze; more even light, please.",
    RejectionReason.UNEVEN_LIGHT: "Turn so that both sides of your face are lit.",
    RejectionReason.UNNATURAL_COLOUR: "White light on your face, please.",
    RejectionReason.TURNED_AWAY: "Turn your face to the camera.",
    RejectionReason.TILTED: "Hold your head upright.",
    RejectionReason.OUTSIDE_FRAME: "Move to the middle of the picture.",
    RejectionReason.EYES_CLOSED: "Open your eyes.",
    RejectionReason.MOUTH_OPEN: "Close your mouth.",
    RejectionReason.LOW_QUALITY: "Face the camera, in good light, and hold still.",
    RejectionReason.EMBEDDING_INVALID: "Try again; this picture could not be used.",
    RejectionReason.NOT_LIKE_THE_OTHERS: "Use another picture; this one looks like somebody else.",
    RejectionReason.NOT_COMPARED: "One moment, please.",
    RejectionReason.PRESENTATION_ATTACK: "This cannot be accepted; please use another way.",
    RejectionReason.LIVENESS_UNDECIDED: "Look into the camera, and move your head a little.",
}
