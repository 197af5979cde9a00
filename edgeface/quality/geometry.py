"""Measures of where the landmarks lie: distances, margins, eyes and mouth, other faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeface.types import (
    AlignedFace,
    FaceDetection,
    FaceLandmarks,
    Frame,
    QualityMeasure,
    Size,
)

__all__ = ["landmark_disagreement", "mesh_measures", "share_inside", "single_face"]

# Numbers in MediaPipe's face mesh. OFIQ's 98 landmarks have three pairs for each eye and three for
# the inner lips; these are the same places.
_LEFT_CORNERS, _RIGHT_CORNERS, _CHIN = (33, 133), (362, 263), 152
_LEFT_LIDS = ((160, 144), (159, 145), (158, 153))
_RIGHT_LIDS = ((385, 380), (386, 374), (387, 373))
_INNER_LIPS = ((82, 87), (13, 14), (312, 317))
_GRID = 16
"""Points per side at which the crop is asked where it comes from."""

Reals = npt.NDArray[np.float64]


def mesh_measures(landmarks: FaceLandmarks, size: Size) -> dict[QualityMeasure, float]:
    """Return the measures that need the mesh; none for landmarks without one.

    ISO/IEC 29794-5. T is the distance from the middle of the eyes to the chin; an eye is the middle
    of its corners; left and right are as seen in the image. A measure that divides by 0 is NaN.
    """
    if len(landmarks.mesh_px) == 0:
        return {}
    mesh = landmarks.mesh_px.astype(np.float64)
    left, right = mesh[list(_LEFT_CORNERS)].mean(0), mesh[list(_RIGHT_CORNERS)].mean(0)
    between = (left + right) / 2
    t = float(np.linalg.norm(mesh[_CHIN] - between))
    eyes = float(np.linalg.norm(right - left))
    opening = min(_widest(mesh, _LEFT_LIDS), _widest(mesh, _RIGHT_LIDS))
    m = QualityMeasure
    return {
        m.INTER_EYE_DISTANCE: _over(eyes, math.cos(math.radians(landmarks.yaw_deg))),
        m.HEAD_SIZE: _over(t, size.height_px),
        m.LEFTWARD_CROP: _over(float(left[0]), eyes),
        m.RIGHTWARD_CROP: _over(size.width_px - float(right[0]), eyes),
        m.MARGIN_ABOVE: _over(float(between[1]), t),
        m.MARGIN_BELOW: _over(size.height_px - float(between[1]), t),
        m.EYES_OPEN: _over(opening, t),
        m.MOUTH_CLOSED: _over(_widest(mesh, _INNER_LIPS), t),
    }


def single_face(detection: FaceDetection, others: Sequence[FaceDetection]) -> float:
    """Return how large the largest other face is: 0 for none, 1 for one as large, or larger.

    ISO/IEC 29794-5: the square root of the ratio of the areas of the two largest boxes.
    """
    largest = max((each.box.area_px for each in others if each is not detection), default=0.0)
    ratio = _over(largest, detection.box.area_px)
    return math.sqrt(min(1.0, ratio)) if math.isfinite(ratio) else math.nan


def landmark_disagreement(detection: FaceDetection, landmarks: FaceLandmarks) -> float | None:
    """Return how far the detector's points are from the landmarks, in distances of the eyes.

    The mean over both eyes, the nose and the middle of the mouth; None for a detector without
    these points. Two networks that saw the face apart rarely err alike: a sign of occlusion, of a
    turned head, or of landmarks on another face.
    """
    found = detection.keypoints_px.astype(np.float64)
    if len(found) not in (5, 6):
        return None
    points = landmarks.points_px.astype(np.float64)
    # Five points are those of alignment; BlazeFace's six have the middle of the mouth fourth.
    mouth = found[3:].mean(0) if len(found) == 5 else found[3]
    theirs, ours = np.vstack([found[:3], mouth]), np.vstack([points[:3], points[3:].mean(0)])
    return _over(float(np.linalg.norm(theirs - ours, axis=1).mean()), landmarks.eye_distance_px)


def share_inside(frame: Frame, aligned: AlignedFace) -> float:
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


def _widest(mesh: Reals, pairs: Sequence[tuple[int, int]]) -> float:
    return max(float(np.linalg.norm(mesh[a] - mesh[b])) for a, b in pairs)


def _over(value: float, by: float) -> float:
    # The least that counts: 1e-6 is OFIQ's for the cosine of the yaw.
    return value / by if by > 1e-6 else math.nan
