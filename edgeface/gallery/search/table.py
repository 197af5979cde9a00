"""Columns of rows that grow and shrink without holes, in segments that are never copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RowTable"]

_SEGMENT_ROWS = 1 << 16
_FIRST_ROWS = 256


class RowTable:
    """Columns of one length. The last row takes the place of one that is removed.

    Args:
        columns: The dtype and width of each column, by name; width 0 is one number a row.
    """

    def __init__(self, columns: Mapping[str, tuple[npt.DTypeLike, int]]) -> None:
        self._columns = dict(columns)
        self._segments: list[dict[str, npt.NDArray[Any]]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, **values: npt.NDArray[Any]) -> None:
        """Add the rows of ``values``, one array of one length for every column."""
        n_rows = len(next(iter(values.values())))
        done = 0
        while done < n_rows:
            segment, start = self._room(n_rows - done)
            n = min(n_rows - done, len(next(iter(segment.values()))) - start)
            for name, column in values.items():
                segment[name][start : start + n] = column[done : done + n]
            done += n
            self._length += n

    def segments(self) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
        """Give the position of the first row and views of the columns, segment by segment."""
        for number, segment in enumerate(self._segments):
            first = number * _SEGMENT_ROWS
            n = min(_SEGMENT_ROWS, self._length - first)
            if n > 0:
                yield first, {name: column[:n] for name, column in segment.items()}

    def positions(self, column: str, value: int) -> npt.NDArray[np.int64]:
        """Return where ``column`` is ``value``, in ascending order."""
        found = [first + np.flatnonzero(c[column] == value) for first, c in self.segments()]
        return np.concatenate([np.empty(0, np.int64), *found])

    def gather(self, column: str, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the values of ``column`` at ``positions``."""
        dtype, width = self._columns[column]
        values = np.empty((len(positions), width) if width else len(positions), dtype)
        numbers = positions // _SEGMENT_ROWS
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            values[here] = self._segments[number][column][positions[here] % _SEGMENT_ROWS]
        return values

    def remove(self, positions: npt.NDArray[np.int64]) -> None:
        """Take the rows at ``positions`` away and overwrite what is left behind."""
        for position in sorted(positions.tolist(), reverse=True):
            last = self._length - 1
            target, source = self._at(position), self._at(last)
            for name in self._columns:
                self._segments[target[0]][name][target[1]] = self._segments[source[0]][name][
                    source[1]
                ]
                self._segments[source[0]][name][source[1]] = 0
            self._length = last
        # One spare segment is kept, so that adding and removing at a border costs nothing.
        del self._segments[self._length // _SEGMENT_ROWS + 2 :]

    def clear(self) -> None:
        """Free everything."""
        self._segments.clear()
        self._length = 0

    def _at(self, position: int) -> tuple[int, int]:
        return position // _SEGMENT_ROWS, position % _SEGMENT_ROWS

    def _room(self, wanted: int) -> tuple[dict[str, npt.NDArray[Any]], int]:
        """Return a segment with room for a row, and where the room starts."""
        number, start = self._at(self._length)
        if number == len(self._segments):
            # Only the first segment starts small: most galleries are.
            self._segments.append(self._made(_SEGMENT_ROWS if number else _FIRST_ROWS))
        segment = self._segments[number]
        capacity = len(next(iter(segment.values())))
        if start + wanted > capacity and capacity < _SEGMENT_ROWS:
            larger = self._made(min(_SEGMENT_ROWS, max(2 * capacity, start + wanted)))
            for name, column in segment.items():
                larger[name][:start] = column[:start]
                column[...] = 0
            self._segments[number] = segment = larger
        return segment, start

    def _made(self, n_rows: int) -> dict[str, npt.NDArray[Any]]:
        return {
            name: np.zeros((n_rows, width) if width else n_rows, dtype)
            for name, (dtype, width) in self._columns.items()
        }
