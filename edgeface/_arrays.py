"""Checks of arrays at the border of a value: shape, dtype, range."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError

__all__ = ["FloatArray", "ImageArray", "read_only", "require_finite", "require_image"]

ImageArray: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]
_Scalar = TypeVar("_Scalar", bound=np.generic)


def read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Return a view of ``array`` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def require_image(name: str, pixels: object) -> ImageArray:
    """Return ``pixels`` if they are a picture of (height, width, 3) uint8 RGB.

    Raises:
        InvalidInputError: They are not; ``name`` stands in the message.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        got = f"{type(pixels).__name__} {getattr(pixels, 'dtype', '')}".strip()
        raise InvalidInputError(f"{name} must be a uint8 numpy array, got {got}")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidInputError(
            f"{name} must have shape (height, width, 3) in RGB, got {pixels.shape}; "
            "convert grey or BGRA pictures with edgeface.camera.to_rgb first"
        )
    if 0 in pixels.shape:
        raise InvalidInputError(f"{name} is empty: shape {pixels.shape}")
    return pixels


def require_finite(name: str, array: object, shape: tuple[int | None, ...]) -> FloatArray:
    """Return ``array`` as float32 if it is made of finite numbers in ``shape``; None is any length.

    Raises:
        InvalidInputError: It is not; ``name`` stands in the message.
    """
    values = _as_float32(name, array)
    fits = values.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, values.shape, strict=True)
    )
    if not fits:
        raise InvalidInputError(f"{name} must have shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidInputError(f"{name} holds NaN, infinity or a number too large for float32")
    return values


def _as_float32(name: str, array: object) -> FloatArray:
    try:
        values = np.asarray(array)
    except ValueError as exc:
        raise InvalidInputError(f"{name} must be an array of numbers: {exc}") from exc
    if values.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"{name} must be an array of numbers, got {type(array).__name__} of {values.dtype}"
        )
    # What is too large for float32 becomes infinite, which the caller is told in our words.
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
