"""Five-point alignment: the similarity transform that takes a face to a model's template.

The template is the one that insightface published with its 112x112 training sets and that
SphereFace, CosFace and ArcFace trainers share; 112x96 crops use the same points moved 8 px to
the left, 160x160 crops the same points 160/112 times as far. The transform is Umeyama's
least-squares similarity (IEEE TPAMI 13(4), 1991).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import AlignedFace, Frame, Size

__all__ = ["ALIGNMENT_TEMPLATES", "align", "alignment_template", "similarity_transform"]

_ARCFACE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

ALIGNMENT_TEMPLATES: dict[str, Size] = {
    "arcface-112x112": Size(112, 112),
    "arcface-112x96": Size(96, 112),
    "arcface-160x160": Size(160, 160),
}
"""Name of each known template and its crop size. Names give height x width, as trainers do."""

# OpenCV counts the sides of a picture in 31 bits; no point of a face lies further out.
_MAX_COORDINATE_PX = 2.0**31
# Points whose squared distances to their middle sum to less lie on one spot.
_MIN_SPREAD_PX2 = 1e-6


def alignment_template(name: str) -> npt.NDArray[np.float64]:
    """Return the (5, 2) float64 x, y points of the template called ``name``, in crop pixels.

    Raises:
        InvalidInputError: ``name`` is not one of ``ALIGNMENT_TEMPLATES``.
    """
    if name not in ALIGNMENT_TEMPLATES:
        known = ", ".join(sorted(ALIGNMENT_TEMPLATES))
        raise InvalidInputError(f"unknown alignment template {name!r}, choose one of {known}")
    size = ALIGNMENT_TEMPLATES[name]
    factor = size.height_px / 112
    shift_px = (112 * factor - size.width_px) / 2
    points: npt.NDArray[np.float64] = np.array(_ARCFACE_112) * factor - np.array([shift_px, 0.0])
    return points


def similarity_transform(
    source: npt.NDArray[np.floating], target: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return the (2, 3) float64 matrix that takes ``source`` points to ``target`` best.

    Rotation, uniform scale and shift, never a reflection; least squares over the (n, 2) points.

    Raises:
        InvalidInputError: The points of either set are not finite, beyond any picture, fewer than
            two, or all on one spot.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise InvalidInputError(
            f"alignment needs two equal (n, 2) sets of points, got {source.shape}, {target.shape}"
        )
    # A comparison with NaN is false, so NaN is refused here as well.
    if not (np.abs([source, target]) <= _MAX_COORDINATE_PX).all():
        raise InvalidInputError(
            "alignment points hold NaN, infinity, or a coordinate beyond any picture"
        )
    source_mean, target_mean = source.mean(0), target.mean(0)
    source, target = source - source_mean, target - target_mean
    spread = source.var(0).sum()
    if min(spread, target.var(0).sum()) < _MIN_SPREAD_PX2:
        raise InvalidInputError("alignment points lie on one spot; no transform exists")
    left, singular, right = np.linalg.svd(target.T @ source / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right)) or 1.0])
    rotation = left @ np.diag(signs) @ right
    scaled = rotation * (singular * signs).sum() / spread
    return np.hstack([scaled, (target_mean - scaled @ source_mean)[:, None]])


def align(frame: Frame, points_px: npt.NDArray[np.floating], template: str) -> AlignedFace:
    """Return the face at the (5, 2) frame points ``points_px``, warped to ``template``.

    Bilinear sampling; pixels outside the frame are black, as in the trainers' own crops.

    Raises:
        InvalidInputError: The points are unusable or the template is unknown.
        MissingDependencyError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    matrix = similarity_transform(points_px, alignment_template(template))
    size = ALIGNMENT_TEMPLATES[template]
    crop = cv2.warpAffine(frame.pixels, matrix, (size.width_px, size.height_px))
    # Rounded only here: a matrix rounded before the warp changes pixels by one grey level, which
    # moves the cosine of an INT8 embedding by up to 0.02.
    return AlignedFace(crop, matrix.astype(np.float32))
