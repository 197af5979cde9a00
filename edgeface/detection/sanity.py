"""Whether five points can be those of the face that was detected."""

from __future__ import annotations

import numpy as np

from edgeface.types import BoundingBox, FloatArray

__all__ = ["landmarks_are_plausible"]

_BOX_SCALE = 1.5
"""The points of a face lie inside its detection box; half as much again is allowed for errors."""
_MIN_SPREAD = 0.12
"""Extent of the points across their main direction, as a share of that along it. A profile of 90
degrees has about 0.25; below this they lie on a line and the alignment means nothing."""
_MIN_SIZE = 0.1
"""Distance from the eyes to the mouth as a share of the box; about 0.4 for a frontal face."""


def landmarks_are_plausible(points_px: FloatArray, box: BoundingBox) -> bool:
    """Return whether (5, 2) points can be a face inside ``box``; False for NaN and infinity.

    Asks for points that are spread over two dimensions, lie inside an enlarged box, and have the
    mouth below the eyes as seen with the head upright, whatever its roll.
    """
    points = np.asarray(points_px, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        return False
    return _lie_inside(points, box) and _are_spread(points) and _mouth_is_below_eyes(points, box)


def _lie_inside(points: np.ndarray, box: BoundingBox) -> bool:
    reach = np.array([box.width_px, box.height_px]) * _BOX_SCALE / 2
    return bool((np.abs(points - box.centre_px) <= reach).all())


def _are_spread(points: np.ndarray) -> bool:
    along, across = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(along > 0 and across >= _MIN_SPREAD * along)


def _mouth_is_below_eyes(points: np.ndarray, box: BoundingBox) -> bool:
    """Return whether the mouth lies on the side of the eyes that is down in the head's frame."""
    across = points[1] - points[0]
    length = float(np.linalg.norm(across))
    if length == 0:
        return False
    down = np.array([-across[1], across[0]]) / length
    distance = float((points[3:].mean(0) - points[:2].mean(0)) @ down)
    return distance >= _MIN_SIZE * max(box.width_px, box.height_px)
