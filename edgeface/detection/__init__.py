"""Finding faces and their landmarks."""

from __future__ import annotations

from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.detection.head_pose import HEAD_LANDMARKS, head_angles_deg
from edgeface.detection.mediapipe_detector import (
    AutoRangeDetector,
    DetectionRange,
    MediaPipeFaceDetector,
    MediaPipeLandmarkFinder,
    detector_points,
    four_alignment_points,
)
from edgeface.detection.sanity import landmarks_are_plausible

__all__ = [
    "HEAD_LANDMARKS",
    "AutoRangeDetector",
    "DetectionRange",
    "FaceDetector",
    "LandmarkFinder",
    "MediaPipeFaceDetector",
    "MediaPipeLandmarkFinder",
    "detector_points",
    "four_alignment_points",
    "head_angles_deg",
    "landmarks_are_plausible",
]
