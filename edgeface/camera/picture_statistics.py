"""Numbers that tell pictures apart, from a small part of their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeface.types import FloatArray, ImageArray

__all__ = ["PictureStatistics", "fingerprint", "statistics_of"]

# Points looked at, and the side of the patch in which neighbours are compared.
_GRID_ROWS, _GRID_COLUMNS = 36, 48
_PATCH = 64
# Larger pictures lose rows: every fifth of 1080p is less than the height of a burnt-in clock.
_FINGERPRINT_BYTES = 1_500_000
_ROWS = 64
# A twentieth of the rows. Y, U and V of 0 are (0, 135, 0) in full range and (0, 77, 0) in video
# range, or one beside it, by the rounding.
_LOWER_END = 20
_UNFILLED_GREEN = (76, 77, 78, 134, 135, 136)
_UNFILLED_GREY = 128


@dataclass(frozen=True, slots=True)
class PictureStatistics:
    """What a few thousand pixels say.

    ``mean`` 0..255. ``deviation``: the largest standard deviation of a channel. ``colour``: the
    standard deviation of the differences of channels; a tint over a grey picture has none.
    ``detail`` and ``correlation``: standard deviation of the patch in the middle, and correlation
    of pixels with their right neighbours there, 1 where the patch is plain. ``is_cut``: the lower
    end has the one colour that decoders leave where nothing arrived.
    """

    mean: float
    deviation: float
    colour: float
    detail: float
    correlation: float
    is_cut: bool


def statistics_of(pixels: ImageArray) -> PictureStatistics:
    """Return the statistics of (height, width, 3) uint8 pixels, at least one."""
    height, width = pixels.shape[:2]
    grid = pixels[:: max(1, height // _GRID_ROWS), :: max(1, width // _GRID_COLUMNS)]
    points = np.ascontiguousarray(grid.reshape(-1, 3).T, np.float32)
    means = points.mean(axis=1)
    points -= means[:, None]
    shared = points @ points.T / points.shape[1]
    top, left = max(0, (height - _PATCH) // 2), max(0, (width - _PATCH) // 2)
    patch = pixels[top : top + _PATCH, left : left + _PATCH, 1].astype(np.float32)
    detail, correlation = _of_neighbours(patch)
    return PictureStatistics(
        mean=float(means.mean()),
        deviation=_root(shared.diagonal().max()),
        colour=_root(max(shared[k, k] + shared[1, 1] - 2.0 * shared[k, 1] for k in (0, 2))),
        detail=detail,
        correlation=correlation,
        is_cut=_is_unfilled(grid[-max(1, len(grid) // _LOWER_END) :].reshape(-1, 3)),
    )


def _is_unfilled(points: ImageArray) -> bool:
    """Return whether all are the grey of an empty plane, or the green of three of them in YUV."""
    red, green, blue = (int(value) for value in points[0])
    is_green = red == blue == 0 and green in _UNFILLED_GREEN
    return (is_green or red == green == blue == _UNFILLED_GREY) and bool(
        (points == points[0]).all()
    )


def _of_neighbours(patch: FloatArray) -> tuple[float, float]:
    """Return standard deviation, and correlation of pixels with their right neighbours."""
    patch -= patch.mean()
    variance = float(np.vdot(patch, patch)) / patch.size
    if not variance or patch.shape[1] < 2:
        return 0.0, 1.0
    products = patch[:, :-1] * patch[:, 1:]
    return _root(variance), float(products.mean()) / variance


def _root(variance: float) -> float:
    """Return the square root; rounding may leave a variance just below 0."""
    return math.sqrt(max(variance, 0.0))


def fingerprint(pixels: ImageArray) -> int:
    """Return a 64-bit number that two different pictures do not share, but by a rare chance.

    It is for one process: Python salts its hashes. Every byte counts, of large pictures every
    byte of every n-th row. Sums along two directions tell what moved in either.
    """
    step = -(-pixels.nbytes // _FINGERPRINT_BYTES)
    flat = np.ascontiguousarray(pixels[::step]).reshape(-1)
    whole = flat.size // (8 * _ROWS) * 8 * _ROWS
    words = flat[:whole].view(np.uint64).reshape(_ROWS, -1)
    parts = (words.sum(axis=0), words.sum(axis=1), flat[whole:])
    return hash((pixels.shape, *(part.tobytes() for part in parts)))
