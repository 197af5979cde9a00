"""The piece of a frame that a network for presentation attack detection looks at.

Such a network judges what is around a face as much as the face: the edge of a sheet, of a screen,
a hand that holds it. It was trained on pieces of frames that show ``scale`` times the box of a
detector whose boxes run from the forehead to the chin, pushed back into the frame where they
reach out of it, and made smaller where the frame is too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import BoundingBox, Frame, ImageArray, Size

__all__ = ["BoxConvention", "PadCrop", "face_box", "pad_crop"]


class BoxConvention(str, Enum):
    """What the boxes of a detector enclose.

    ``BLAZEFACE``: MediaPipe's squares from the brows to the chin. ``WHOLE_FACE``: boxes from the
    forehead to the chin, as detectors trained on WIDER FACE give them (RetinaFace, SCRFD, YuNet).
    """

    BLAZEFACE = "blazeface"
    WHOLE_FACE = "whole-face"


# Width, height, and shift of the centre to the right and down, in shares of BlazeFace's box.
# Medians against the boxes of SCRFD-500M on 155 LFW images outside the verification folds; from
# face to face width and height differ by 7 and 6 % (standard deviation), the centre by 2 and 3 %
# of the box.
_WHOLE_FACE_OF = {
    BoxConvention.BLAZEFACE: (0.89, 1.24, 0.0, -0.117),
    BoxConvention.WHOLE_FACE: (1.0, 1.0, 0.0, 0.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class PadCrop:
    """A piece of a frame, resized.

    ``pixels`` is (height, width, 3) uint8 RGB of the model's crop size. ``scale`` is how many
    times the face's box it shows: less than asked for where the frame is too small.
    """

    pixels: ImageArray
    scale: float


def face_box(box: BoundingBox, convention: BoxConvention) -> BoundingBox:
    """Return the box from forehead to chin for a detector's ``box``."""
    width, height, right, down = _WHOLE_FACE_OF[convention]
    centre_x, centre_y = box.centre_px
    width_px, height_px = box.width_px * width, box.height_px * height
    return BoundingBox(
        centre_x + right * box.width_px - width_px / 2,
        centre_y + down * box.height_px - height_px / 2,
        width_px,
        height_px,
    )


def pad_crop(frame: Frame, box: BoundingBox, *, scale: float, size: Size) -> PadCrop | None:
    """Return the piece of ``frame`` that shows ``scale`` times the face's ``box``.

    ``box`` runs from forehead to chin; see :func:`face_box`. None when its centre lies outside
    the frame, or it is smaller than a pixel: there is no face to judge.

    Raises:
        InvalidInputError: ``scale`` is not a finite number above 0.
        MissingDependencyError: OpenCV is not installed.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise InvalidInputError(f"scale must be a finite number above 0, got {scale}")
    centre_x, centre_y = box.centre_px
    inside = 0 <= centre_x < frame.size.width_px and 0 <= centre_y < frame.size.height_px
    if not inside or min(box.width_px, box.height_px) < 1:
        return None
    last_x, last_y = frame.size.width_px - 1, frame.size.height_px - 1
    reached = min(scale, last_x / box.width_px, last_y / box.height_px)
    left, right = _pushed_inside(centre_x, box.width_px * reached, last_x)
    top, bottom = _pushed_inside(centre_y, box.height_px * reached, last_y)
    piece = frame.pixels[top : bottom + 1, left : right + 1]
    return PadCrop(_resized(piece, size), reached)


def _pushed_inside(centre: float, length: float, last: int) -> tuple[int, int]:
    """Return the first and last pixel of a stretch around ``centre``, moved into 0..``last``."""
    first, end = centre - length / 2, centre + length / 2
    if first < 0:
        first, end = 0.0, end - first
    if end > last:
        first, end = first - (end - last), float(last)
    return max(0, int(first)), min(last, int(end))


def _resized(piece: ImageArray, size: Size) -> ImageArray:
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    # Bilinear without antialiasing, as in training: the patterns of print and screen that it lets
    # through are part of what the network knows an attack by.
    return np.asarray(cv2.resize(piece, (size.width_px, size.height_px)), np.uint8)
