"""Single pictures: reading a file, and what OpenCV makes of pixels, as RGB."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.camera.base import MAX_PIXELS, load_opencv
from edgeface.camera.image_header import MAGIC_SIZE, image_kind, image_size
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import Frame, ImageArray

__all__ = ["decode_image", "is_image_file", "read_image", "to_rgb"]

# 64 Mpx of 16-bit RGBA are 512 MiB before compression.
_MAX_FILE_BYTES = 512 << 20


def to_rgb(pixels: npt.NDArray[np.generic]) -> ImageArray:
    """Return (height, width, 3) uint8 RGB, for pixels in the orders of OpenCV.

    Takes (height, width) or (height, width, 1) grey, (…, 3) BGR and (…, 4) BGRA, whose alpha is
    dropped; uint8, or uint16 of which the upper byte is kept. The result is a copy.

    Raises:
        InvalidInputError: Another shape or type, or no pixel.
    """
    array = np.asarray(pixels)
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InvalidInputError(
            f"pixels must be uint8 or uint16, got {array.dtype}; scale to 0..255 first"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InvalidInputError(
            "pixels must have shape (height, width) or (height, width, 1, 3 or 4), "
            f"got {np.shape(pixels)}"
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    cv2 = load_opencv()
    code = cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGB
    rgb: ImageArray = cv2.cvtColor(np.ascontiguousarray(array), code)
    return rgb


def read_image(path: str | os.PathLike[str]) -> Frame:
    """Return the PNG or JPEG file at ``path`` as a frame, upright as its EXIF orientation says.

    Grey, alpha and 16-bit pictures become 8-bit RGB.

    Raises:
        CameraError: No such file, not PNG or JPEG, damaged, or above 64 Mpx.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise CameraError(f"no picture at {file}: there is no such file")
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise CameraError(f"{file} is larger than {_MAX_FILE_BYTES} bytes")
        content = file.read_bytes()
    except OSError as exc:
        raise CameraError(f"{file} cannot be read: {exc}") from exc
    return Frame(decode_image(content, where=str(file)), source=file.name)


def decode_image(content: bytes, *, where: str) -> ImageArray:
    """Return (height, width, 3) uint8 RGB for the PNG or JPEG file ``content``.

    Raises:
        CameraError: Neither PNG nor JPEG, damaged, or above 64 Mpx. ``where`` names it.
    """
    size = image_size(content, where=where)
    if size.width_px * size.height_px > MAX_PIXELS:
        raise CameraError(
            f"{where} has {size} pixels, more than {MAX_PIXELS >> 20} Mpx; make it smaller first"
        )
    cv2 = load_opencv()
    try:
        # IMREAD_COLOR turns the picture upright and makes 8-bit BGR of everything.
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as exc:
        raise CameraError(f"{where} cannot be decoded: {exc}") from exc
    if pixels is None:
        raise CameraError(f"{where} cannot be decoded: the file is damaged; copy it again")
    return to_rgb(pixels)


def is_image_file(path: Path) -> bool:
    """Return whether the file at ``path`` begins like PNG or JPEG; False for anything else."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return image_kind(file.read(MAGIC_SIZE)) is not None
    except OSError:
        return False
