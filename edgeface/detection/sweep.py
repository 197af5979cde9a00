"""The order in which the parts of a view are searched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.types import BoundingBox, Frame, ImageArray, Size

__all__ = ["Cell", "Sweep"]

_OVERLAP = 0.15
"""Of neighbouring tiles, as a share of a tile: 0.15 of 711 px is wider than the faces of a crowd,
and a face wider than that is found in the whole frame."""
_SOONEST = 0.7
"""A changing cell is searched again after this share of the sweep's time, where still ones leave
the time for it."""
_STILL_SWEEPS = 5
"""A cell in which nothing changes is searched in every fifth sweep only."""
_SAMPLES = 160
"""Points along the longer side of a frame that are watched for change."""
_CHANGE_LEVELS = 16
_CHANGE_POINTS = 8
"""A face of 45 px in 1920 covers 14 of the points; noise and compression move single points by up
to a dozen levels."""

_Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Cell:
    """A rectangle of the frame in whole pixels, and whether to search it with the full range."""

    left_px: int
    top_px: int
    width_px: int
    height_px: int
    full_range: bool

    @property
    def box(self) -> BoundingBox:
        """The rectangle."""
        return BoundingBox(self.left_px, self.top_px, self.width_px, self.height_px)

    def cut(self, pixels: ImageArray) -> ImageArray:
        """Return the pixels of the cell."""
        rows = slice(self.top_px, self.top_px + self.height_px)
        return pixels[rows, self.left_px : self.left_px + self.width_px]


class Sweep:
    """Says for each frame which cells to search: in turns, still ones less often.

    The first cell is the whole frame for near faces; the others are tiles, or the whole frame
    once more, for far ones.
    """

    def __init__(self, size: Size, *, sweep_s: float, max_tile_px: int) -> None:
        self.size = size
        self._sweep_s = sweep_s
        self._cells = _cells(size, max_tile_px)
        self._step = max(1, max(size.width_px, size.height_px) // _SAMPLES)
        self._seen: list[tuple[float, _Samples] | None] = [None] * len(self._cells)
        self._next = 0
        self._owed = float(len(self._cells))
        self._time_s: float | None = None

    def due(self, frame: Frame) -> Iterator[Cell]:
        """Yield the cells to search in ``frame``; all of them in the first one."""
        now_s, count = frame.timestamp_s, len(self._cells)
        if self._time_s is not None:
            passed_s = max(0.0, now_s - self._time_s)
            earned = count * min(1.0, passed_s / self._sweep_s if self._sweep_s else 1.0)
            # What was left in a still view is not saved up for a burst.
            self._owed = min(self._owed + earned, earned + 1.0, float(count))
        self._time_s = now_s
        for _ in range(count):
            # Sums of frame times have rounding errors, which must not put a cell off by a frame.
            if self._owed < 1.0 - 1e-6:
                break
            index = self._next
            self._next = (index + 1) % count
            samples = self._samples(frame, self._cells[index])
            if self._is_due(index, now_s, samples):
                self._owed = max(0.0, self._owed - 1.0)
                self._seen[index] = (now_s, samples)
                yield self._cells[index]

    def _samples(self, frame: Frame, cell: Cell) -> _Samples:
        """Return the green of every few pixels of a cell."""
        part = cell.cut(frame.pixels)[:: self._step, :: self._step, 1]
        return part.astype(np.int16)

    def _is_due(self, index: int, now_s: float, samples: _Samples) -> bool:
        seen = self._seen[index]
        if seen is None:
            return True
        since_s = now_s - seen[0]
        if since_s < 0.0 or since_s >= _STILL_SWEEPS * self._sweep_s:
            return True
        if since_s < _SOONEST * self._sweep_s:
            return False
        moved = np.abs(samples - seen[1]) > _CHANGE_LEVELS
        return int(moved.sum()) >= _CHANGE_POINTS


def _cells(size: Size, max_tile_px: int) -> list[Cell]:
    columns = _starts(size.width_px, max_tile_px)
    rows = _starts(size.height_px, max_tile_px)
    tiles = [
        Cell(left, top, width, height, full_range=True)
        for top, height in rows
        for left, width in columns
    ]
    return [Cell(0, 0, size.width_px, size.height_px, full_range=False), *tiles]


def _starts(length_px: int, max_tile_px: int) -> list[tuple[int, int]]:
    """Return (start, length) of the overlapping tiles along one side."""
    count = math.ceil(length_px / max_tile_px)
    if count == 1:
        return [(0, length_px)]
    tile = length_px / (count - (count - 1) * _OVERLAP)
    starts = [round(k * tile * (1 - _OVERLAP)) for k in range(count)]
    return [(start, min(round(tile), length_px - start)) for start in starts]
