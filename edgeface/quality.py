"""Quality gates: whether a face is worth comparing, and how good it is among others.

Units of the measures:

- ``DETECTION_SCORE``: the detector's confidence, 0..1.
- ``EYE_DISTANCE``: pixels of the frame.
- ``SHARPNESS``: standard deviation of the Laplacian over that of the luminance, both on the
  middle of the aligned crop; no unit. The crop has one size whatever the size of the face, and
  the division takes out contrast and exposure. A proxy, not the sharpness of ISO/IEC 29794-5.
- ``LUMINANCE``: mean of the middle of the aligned crop, 0 black to 1 white (ITU-R BT.601).
- ``YAW``, ``PITCH``, ``ROLL``: degrees, signs as in :class:`edgeface.types.FaceLandmarks`.
- ``INSIDE_FRAME``: share of the aligned crop that comes from inside the frame, 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError
from edgeface.types import (
    AlignedFace,
    FaceDetection,
    FaceLandmarks,
    Frame,
    ImageArray,
    QualityMeasure,
    QualityReport,
    RejectionReason,
)

__all__ = ["QualityGateOptions", "advice", "assess", "luminance", "sharpness"]

Luminance: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGateOptions:
    """The limits of the gates; a value at its limit passes. The defaults are those of ``watch``.

    Angles are limits on the absolute value, in degrees.
    """

    # Measured on every second LFW image outside the verification folds (1,556 faces, aligned to
    # 112x112) and on five clips. Sharpness: 0.1 % of the faces lie below 0.123 and 1 % below
    # 0.167; blurred by a Gaussian of 4 px in the crop all lie below 0.097, of 2 px 99 % below
    # 0.143. Luminance: 0.1 % below 0.23 and above 0.77. Angles of the 0.1 % turned furthest:
    # yaw -37 and 46, pitch -22 and 30, roll -23 and 22. Detection score: 0.1 % below 0.80, but
    # 0.53 for good faces of a 1080p crowd. Eye distance: 0.1 % below 19 px, 1 % below 32 px.
    # Of these faces ``watch`` lets 99.0 % pass and ``enrolment`` 96.3 %.
    #
    # Pitch: a person who raises the head (83 frames, four MobileFaceNets) has a similarity to the
    # frontal frame of 0.94 to 0.97 at 3 degrees, 0.66 at 15, 0.51 to 0.63 at 21, 0.39 to 0.61 at
    # 25, 0.05 to 0.30 at 31 and at most 0.13 at 39; it falls below 0.5 at 24, 24, 24 and 29. The
    # limit for lowered heads is the same, by symmetry and not by measurement.

    min_detection_score: float = 0.5
    min_eye_distance_px: float = 20.0
    min_sharpness: float = 0.1
    min_luminance: float = 0.1
    max_luminance: float = 0.9
    max_yaw_deg: float = 45.0
    max_pitch_deg: float = 25.0
    max_roll_deg: float = 60.0
    min_inside_frame: float = 0.8

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not math.isfinite(value) or value < 0:
                raise InvalidInputError(f"{each.name} must be finite and at least 0, got {value}")
        if self.min_luminance >= self.max_luminance:
            raise InvalidInputError(
                f"min_luminance must be below max_luminance, got {self.min_luminance} "
                f"and {self.max_luminance}"
            )

    @classmethod
    def watch(cls) -> QualityGateOptions:
        """Return the limits for probes: only faces that cannot be compared are kept out."""
        return cls()

    @classmethod
    def enrolment(cls) -> QualityGateOptions:
        """Return the strict limits for references: everything is compared with these."""
        return cls(
            min_detection_score=0.6,
            min_eye_distance_px=30.0,
            min_sharpness=0.15,
            min_luminance=0.15,
            max_luminance=0.85,
            max_yaw_deg=30.0,
            max_pitch_deg=20.0,
            max_roll_deg=30.0,
            min_inside_frame=0.95,
        )


def assess(
    frame: Frame,
    detection: FaceDetection,
    landmarks: FaceLandmarks,
    aligned: AlignedFace,
    options: QualityGateOptions,
) -> QualityReport:
    """Return the measures of one face, the reasons it fails ``options``, and its score.

    A measure that is not finite is left out of ``values``, fails its gate and brings the score
    to 0. The score does not depend on ``options``.
    """
    measured = {
        QualityMeasure.DETECTION_SCORE: detection.score,
        QualityMeasure.EYE_DISTANCE: landmarks.eye_distance_px,
        QualityMeasure.SHARPNESS: sharpness(aligned.pixels),
        QualityMeasure.LUMINANCE: luminance(aligned.pixels),
        QualityMeasure.YAW: landmarks.yaw_deg,
        QualityMeasure.PITCH: landmarks.pitch_deg,
        QualityMeasure.ROLL: landmarks.roll_deg,
        QualityMeasure.INSIDE_FRAME: _share_inside(frame, aligned),
    }
    values = {measure: value for measure, value in measured.items() if math.isfinite(value)}
    return QualityReport(values, _reasons(values, options), _score(values))


def advice(reason: RejectionReason) -> str:
    """Return one short sentence that tells the person in front of the camera what to do."""
    return _ADVICE[reason]


def luminance(crop: ImageArray) -> float:
    """Return the mean luminance of the middle of an aligned crop, 0 black to 1 white."""
    return float(_middle(crop).mean())


def sharpness(crop: ImageArray) -> float:
    """Return the sharpness of the middle of an aligned crop; 0 for one without any contrast."""
    light = _middle(crop)
    if min(light.shape) < 3:
        return 0.0
    spread = float(light.std())
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    laplacian = around - 4 * light[1:-1, 1:-1]
    return float(laplacian.std()) / spread if spread > _NO_CONTRAST else 0.0


_NO_CONTRAST = 1e-3
"""Below a quarter of one step of 8 bits there is nothing to see."""

_MIDDLE_ROWS, _MIDDLE_COLUMNS = (0.25, 0.95), (0.2, 0.8)
"""From the brows to the chin and between the cheeks, as shares of the crop: no background."""


def _middle(crop: ImageArray) -> Luminance:
    """Return the luminance in 0..1 of the middle of an aligned crop."""
    height, width = crop.shape[:2]
    rows = slice(int(height * _MIDDLE_ROWS[0]), max(1, int(height * _MIDDLE_ROWS[1])))
    columns = slice(int(width * _MIDDLE_COLUMNS[0]), max(1, int(width * _MIDDLE_COLUMNS[1])))
    weights = np.array([0.299, 0.587, 0.114]) / 255
    light: Luminance = crop[rows, columns].astype(np.float64) @ weights
    return light


_GRID = 16
"""Points per side at which the crop is asked where it comes from."""


def _share_inside(frame: Frame, aligned: AlignedFace) -> float:
    """Return the share of the crop that comes from inside the frame; NaN when that is unknown."""
    height, width = aligned.pixels.shape[:2]
    steps = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid(steps * width, steps * height)
    matrix = aligned.frame_to_crop.astype(np.float64)
    try:
        inverse = np.linalg.inv(matrix[:, :2])
    except np.linalg.LinAlgError:
        return math.nan
    points = (np.stack([x.ravel(), y.ravel()], 1) - matrix[:, 2]) @ inverse.T
    limits = (frame.size.width_px, frame.size.height_px)
    return float(((points >= 0) & (points <= limits)).all(1).mean())


def _reasons(
    values: Mapping[QualityMeasure, float], options: QualityGateOptions
) -> tuple[RejectionReason, ...]:
    """Return the reasons in a fixed order, each once."""
    m, r, o = QualityMeasure, RejectionReason, options
    gates = (
        (m.DETECTION_SCORE, o.min_detection_score, math.inf, r.DETECTION_UNSURE),
        (m.EYE_DISTANCE, o.min_eye_distance_px, math.inf, r.TOO_SMALL),
        (m.INSIDE_FRAME, o.min_inside_frame, math.inf, r.OUTSIDE_FRAME),
        (m.YAW, -o.max_yaw_deg, o.max_yaw_deg, r.TURNED_AWAY),
        (m.PITCH, -o.max_pitch_deg, o.max_pitch_deg, r.TURNED_AWAY),
        (m.ROLL, -o.max_roll_deg, o.max_roll_deg, r.TILTED),
        (m.LUMINANCE, o.min_luminance, math.inf, r.TOO_DARK),
        (m.LUMINANCE, -math.inf, o.max_luminance, r.TOO_BRIGHT),
        (m.SHARPNESS, o.min_sharpness, math.inf, r.TOO_BLURRED),
    )
    # A missing value is NaN here, which no comparison accepts.
    failed = (
        reason
        for measure, low, high, reason in gates
        if not low <= values.get(measure, math.nan) <= high
    )
    return tuple(dict.fromkeys(failed))


def _score(values: Mapping[QualityMeasure, float]) -> float:
    """Return the geometric mean of one grade in 0..1 for each measure, so that the worst counts."""
    if len(values) < len(QualityMeasure):
        return 0.0
    grades = [_grade(measure, values[measure]) for measure in QualityMeasure]
    return math.exp(sum(math.log(grade) for grade in grades) / len(grades)) if all(grades) else 0.0


def _grade(measure: QualityMeasure, value: float) -> float:
    """Return how good a value is, 0..1."""
    if measure in (QualityMeasure.YAW, QualityMeasure.PITCH, QualityMeasure.ROLL):
        # ISO/IEC 29794-5, head pose: the square of the cosine.
        return max(0.0, math.cos(math.radians(value))) ** 2
    if measure is QualityMeasure.LUMINANCE:
        # ISO/IEC 29794-5, luminance mean: a plateau between 0.2 and 0.8.
        return _sigmoid((value - 0.2) / 0.05) * (1 - _sigmoid((value - 0.8) / 0.05))
    return min(1.0, max(0.0, value / _FULL_GRADE[measure]))


_FULL_GRADE = {
    QualityMeasure.DETECTION_SCORE: 1.0,
    # A crop of 112 px has its eyes 35 px apart: more than that is thrown away.
    QualityMeasure.EYE_DISTANCE: 35.0,
    QualityMeasure.SHARPNESS: 0.4,
    QualityMeasure.INSIDE_FRAME: 1.0,
}
"""The value from which on more of it does not help."""


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


_ADVICE = {
    RejectionReason.NO_FACE: "Look into the camera.",
    RejectionReason.SEVERAL_FACES: "Only one person at a time, please.",
    RejectionReason.LANDMARKS_NOT_FOUND: "Show your whole face.",
    RejectionReason.LANDMARKS_IMPLAUSIBLE: "Show your whole face and hold still.",
    RejectionReason.DETECTION_UNSURE: "Come closer and look into the camera.",
    RejectionReason.TOO_SMALL: "Come closer.",
    RejectionReason.TOO_BLURRED: "Hold still, and clean the lens if it stays blurred.",
    RejectionReason.TOO_DARK: "More light on your face, please.",
    RejectionReason.TOO_BRIGHT: "Less light on your face, please.",
    RejectionReason.TURNED_AWAY: "Turn your face to the camera.",
    RejectionReason.TILTED: "Hold your head upright.",
    RejectionReason.OUTSIDE_FRAME: "Move to the middle of the picture.",
    RejectionReason.EMBEDDING_INVALID: "Try again; this picture could not be used.",
}
