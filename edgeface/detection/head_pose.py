"""The pose of a head from the landmarks' own three coordinates.

A table of mean points is rotated onto the landmarks by least squares (Kabsch, Acta Cryst. A32,
1976). Only points that hardly move with speech and expression take part: corners of the eyes,
bridge and base of the nose, forehead, temples and the sides down to the jaw.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError

__all__ = ["HEAD_LANDMARKS", "head_angles_deg"]

# The table is the mean of 518 LFW images outside the verification folds (every sixth, Google's
# bundle), brought together by generalised Procrustes analysis, averaged with its mirror image, and
# given in distances between the outer corners of the eyes: x to the right of the image, y up, z
# towards the camera, origin at the bridge of the nose. Symmetry makes yaw and roll of a straight
# face 0. For pitch nothing in a face says where 0 is: the table is tipped by 1.7 degrees, so that
# the median difference to MediaPipe's facial transformation matrix is 0 on these images.
_PAIRS = (
    ((33, 263), (0.500, -0.037, -0.194)),
    ((133, 362), (0.199, -0.052, -0.148)),
    ((127, 356), (0.818, -0.092, -0.627)),
    ((234, 454), (0.813, -0.262, -0.661)),
    ((93, 323), (0.804, -0.438, -0.659)),
    ((132, 361), (0.780, -0.625, -0.631)),
    ((58, 288), (0.729, -0.824, -0.575)),
    ((21, 251), (0.763, 0.230, -0.438)),
    ((54, 284), (0.685, 0.359, -0.335)),
)
"""Landmarks further left and right in an upright image, and the right one's place."""
_MIDLINE = (
    (10, (0.555, -0.061)),
    (151, (0.379, -0.023)),
    (9, (0.185, 0.009)),
    (168, (0.000, 0.000)),
    (6, (-0.086, 0.041)),
    (2, (-0.552, 0.062)),
)
"""Landmarks on the plane of symmetry, and their y and z."""

HEAD_LANDMARKS = tuple(k for pair, _ in _PAIRS for k in pair) + tuple(k for k, _ in _MIDLINE)
"""Numbers, in MediaPipe's mesh, of the landmarks that the pose is taken from."""

_DEPTH_SCALE = 0.75
"""MediaPipe's z is an estimate on the scale of x. Taken at 1.0, yaw comes out 1.15 times that of
the facial transformation matrix; of 0.65 to 1.0, 0.75 agrees best with it over all three angles."""


def _mean_head() -> npt.NDArray[np.float64]:
    """Return the (24, 3) mean places of ``HEAD_LANDMARKS``, centred on 0."""
    sides = [place for _, (x, y, z) in _PAIRS for place in ((-x, y, z), (x, y, z))]
    points = np.array([*sides, *((0.0, y, z) for _, (y, z) in _MIDLINE)])
    centred: npt.NDArray[np.float64] = points - points.mean(0)
    return centred


_MEAN_HEAD = _mean_head()


def head_angles_deg(points_px: npt.ArrayLike) -> tuple[float, float, float]:
    """Return (yaw, pitch, roll) in degrees, signs as in :class:`edgeface.types.FaceLandmarks`.

    ``points_px`` is (24, 3): the landmarks ``HEAD_LANDMARKS`` in pixels, x to the right, y down, z
    away from the camera on the scale of x. Where the picture lies and how large the face is do
    not matter. Roll is taken out first, so turning the picture changes roll alone.

    Raises:
        InvalidInputError: The points have another shape, or are not finite.
    """
    points = np.asarray(points_px, np.float64)
    if points.shape != _MEAN_HEAD.shape:
        raise InvalidInputError(
            f"head pose needs points of shape {_MEAN_HEAD.shape}, got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise InvalidInputError("the landmarks hold NaN or infinity")
    rotation = _rotation_onto(points * (1.0, -1.0, -_DEPTH_SCALE))
    yaw = math.atan2(-rotation[2, 0], math.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = -math.atan2(rotation[2, 1], rotation[2, 2])
    roll = -math.atan2(rotation[1, 0], rotation[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _rotation_onto(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (3, 3) rotation that takes the mean head to ``points`` best; no reflection."""
    # The mean head is centred, so that the place of the points drops out of the product.
    left, _, right = np.linalg.svd(points.T @ _MEAN_HEAD)
    flip = np.diag((1.0, 1.0, np.linalg.det(left @ right)))
    rotation: npt.NDArray[np.float64] = left @ flip @ right
    return rotation
