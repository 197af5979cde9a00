"""The words of quality: what is measured of a face, why it is refused, and the report on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["QualityMeasure", "QualityReport", "RejectionReason"]


class QualityMeasure(str, Enum):
    """What is measured of a face before it is compared. Units in :mod:`edgeface.quality`."""

    DETECTION_SCORE = "detection_score"
    EYE_DISTANCE = "eye_distance_px"
    SHARPNESS = "sharpness"
    LUMINANCE = "luminance"
    YAW = "yaw_deg"
    PITCH = "pitch_deg"
    ROLL = "roll_deg"
    INSIDE_FRAME = "inside_frame"
    INTER_EYE_DISTANCE = "inter_eye_distance_px"
    HEAD_SIZE = "head_size"
    LEFTWARD_CROP = "leftward_crop"
    RIGHTWARD_CROP = "rightward_crop"
    MARGIN_ABOVE = "margin_above"
    MARGIN_BELOW = "margin_below"
    EYES_OPEN = "eyes_open"
    MOUTH_CLOSED = "mouth_closed"
    SINGLE_FACE = "single_face"
    LUMINANCE_MEAN = "luminance_mean"
    LUMINANCE_VARIANCE = "luminance_variance"
    DYNAMIC_RANGE = "dynamic_range"
    ILLUMINATION_UNIFORMITY = "illumination_uniformity"
    OVER_EXPOSURE = "over_exposure"
    UNDER_EXPOSURE = "under_exposure"
    NATURAL_COLOUR = "natural_colour"
    LANDMARK_DISAGREEMENT = "landmark_disagreement"
    EMBEDDING_AGREEMENT = "embedding_agreement"


class RejectionReason(str, Enum):
    """Why a face was not compared, or not accepted."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    LANDMARKS_NOT_FOUND = "landmarks_not_found"
    LANDMARKS_IMPLAUSIBLE = "landmarks_implausible"
    DETECTION_UNSURE = "detection_unsure"
    TOO_SMALL = "too_small"
    TOO_BLURRED = "too_blurred"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    TURNED_AWAY = "turned_away"
    TILTED = "tilted"
    OUTSIDE_FRAME = "outside_frame"
    TOO_CLOSE = "too_close"
    EYES_CLOSED = "eyes_closed"
    MOUTH_OPEN = "mouth_open"
    UNEVEN_LIGHT = "uneven_light"
    LOW_CONTRAST = "low_contrast"
    UNNATURAL_COLOUR = "unnatural_colour"
    LOW_QUALITY = "low_quality"
    EMBEDDING_INVALID = "embedding_invalid"
    NOT_LIKE_THE_OTHERS = "not_like_the_others"
    """Of the images given for one person, it shows another, or is of no use."""
    NOT_COMPARED = "not_compared"
    """Its turn has not come yet."""
    PRESENTATION_ATTACK = "presentation_attack"
    LIVENESS_UNDECIDED = "liveness_undecided"
    """Not yet shown to be there in person."""


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The measured values of one face and the reasons it failed, if any.

    ``score`` in 0..1 says how useful the face is for recognition: higher is better. It is the
    unified quality of :mod:`edgeface.quality` over 100.
    """

    values: Mapping[QualityMeasure, float]
    reasons: tuple[RejectionReason, ...] = ()
    score: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the face may be compared."""
        return not self.reasons
