"""Never the same face twice: boxes of several looks at one frame, brought together."""

from __future__ import annotations

from collections.abc import Iterable

from edgeface.types import BoundingBox, FaceDetection

__all__ = ["overlap_of_smaller", "same_face", "unique_faces"]

# Boxes that two detectors, or two crops, give for one face overlap by 0.6 to 0.8 (IoU); those of
# two heads side by side by less than 0.2.
_SAME_IOU = 0.4
# A face cut by the edge of a crop gives a smaller box that lies in the whole one.
_SAME_COVER = 0.7


def same_face(one: BoundingBox, other: BoundingBox) -> bool:
    """Return whether two boxes of one frame are of one face."""
    return one.iou(other) >= _SAME_IOU or overlap_of_smaller(one, other) >= _SAME_COVER


def overlap_of_smaller(one: BoundingBox, other: BoundingBox) -> float:
    """Return the share of the smaller box that lies in the other one, in 0..1."""
    width = min(one.right_px, other.right_px) - max(one.left_px, other.left_px)
    height = min(one.bottom_px, other.bottom_px) - max(one.top_px, other.top_px)
    if width <= 0 or height <= 0:
        return 0.0
    smaller = one if one.area_px <= other.area_px else other
    return min(1.0, width / smaller.width_px * (height / smaller.height_px))


def unique_faces(detections: Iterable[FaceDetection]) -> list[FaceDetection]:
    """Return one detection for each face, best score first: of several the best one."""
    kept: list[FaceDetection] = []
    for face in sorted(detections, key=lambda one: (-one.score, one.box.left_px, one.box.top_px)):
        if not any(same_face(face.box, other.box) for other in kept):
            kept.append(face)
    return kept
