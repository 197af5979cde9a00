"""The test source: a moving picture that carries its own number."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edgeface.camera.captures import Capture, Shot
from edgeface.errors import InvalidInputError
from edgeface.types import ImageArray, Size

__all__ = ["MIN_PATTERN_SIZE", "draw_pattern", "open_pattern", "pattern_number"]

_BITS = 32
# Two rows of sixteen squares carry the number; large enough to survive a codec.
_CELL_PX = 8
_COLUMNS = 16
MIN_PATTERN_SIZE = Size(_COLUMNS * _CELL_PX, 64)
"""The least size that the number fits in."""

_BALL_PX = 24


def draw_pattern(number: int, size: Size) -> ImageArray:
    """Return (height, width, 3) uint8 RGB: a ball on a coloured ground, and ``number`` in squares.

    No two numbers below 2**32 give the same picture.
    """
    if size.width_px < MIN_PATTERN_SIZE.width_px or size.height_px < MIN_PATTERN_SIZE.height_px:
        raise InvalidInputError(f"a test picture has at least {MIN_PATTERN_SIZE}, got {size}")
    rows = np.linspace(40, 200, size.height_px).astype(np.uint8)[:, None]
    columns = np.linspace(220, 60, size.width_px).astype(np.uint8)[None, :]
    pixels = np.empty((size.height_px, size.width_px, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = columns, rows, 128
    left = _bounce(5 * number, size.width_px - _BALL_PX)
    top = _bounce(3 * number, size.height_px - _BALL_PX)
    pixels[top : top + _BALL_PX, left : left + _BALL_PX] = (250, 120, 20)
    bits = (number >> np.arange(_BITS)) & 1
    squares = np.repeat(np.repeat(bits.reshape(2, _COLUMNS), _CELL_PX, 0), _CELL_PX, 1)
    pixels[: 2 * _CELL_PX, : _COLUMNS * _CELL_PX] = (squares * 255)[..., None]
    return pixels


def pattern_number(pixels: ImageArray) -> int:
    """Return the number in a picture of ``draw_pattern``, in RGB or BGR, even after a codec."""
    middle = np.arange(_CELL_PX // 2, _COLUMNS * _CELL_PX, _CELL_PX)
    bits = pixels[np.ix_(middle[:2], middle)][..., 1].reshape(-1) > 127
    return int(sum(1 << place for place, bit in enumerate(bits) if bit))


def _bounce(distance: int, room: int) -> int:
    return room - abs(distance % (2 * room) - room)


class PatternCapture:
    """Gives the pictures of ``draw_pattern`` at a rate, or as fast as they are read."""

    def __init__(
        self,
        size: Size,
        fps: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.fps = fps
        self._size = size
        self._clock, self._sleep = clock, sleep
        self._started_s = clock()
        self._number = 0

    def read(self) -> Shot:
        """Return the next picture, when it is due."""
        position_s = self._number / self.fps if self.fps else None
        if position_s is not None:
            self._sleep(max(0.0, self._started_s + position_s - self._clock()))
        shot = Shot(draw_pattern(self._number, self._size), position_s, is_rgb=True)
        self._number += 1
        return shot

    def release(self) -> None:
        """Do nothing: there is nothing to free."""


def open_pattern(*, size: tuple[int, int], fps: float | None) -> Capture:
    """Return the test source; ``fps`` None for as fast as it is read."""
    return PatternCapture(Size(*size), fps)
