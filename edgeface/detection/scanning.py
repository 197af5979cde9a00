"""Where to look in which frame, so that every face is found soon and followed cheaply.

The whole view is swept bit by bit: near faces by the short range on the whole frame, far ones by
the full range, in tiles where the frame is large. Between two visits of the sweep a face that is
followed is looked for in a region around its expected place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeface.detection.base import FaceDetector
from edgeface.detection.regions import find_in_regions
from edgeface.detection.suppression import overlap_of_smaller, unique_faces
from edgeface.detection.sweep import Cell, Sweep
from edgeface.errors import InvalidInputError
from edgeface.types import BoundingBox, FaceDetection, Frame, Size

__all__ = ["EveryFrameScanner", "FaceScanner", "Scan", "ScanOptions", "SpreadScanner"]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What one frame gave.

    ``detections`` holds each face once, best score first. ``looked`` are the followed faces whose
    expected place was searched: one of these that is not among the detections was not to be seen;
    of the others nothing is known.
    """

    detections: tuple[FaceDetection, ...]
    looked: frozenset[int]


class FaceScanner(Protocol):
    """Finds and follows the faces of one stream; keeps what it needs to know between frames."""

    def scan(self, frame: Frame, expected: Mapping[int, BoundingBox]) -> Scan:
        """Return what is found in ``frame``; ``expected`` are the places of followed faces."""
        ...


class EveryFrameScanner:
    """Runs a detector on every frame, whole."""

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector

    def scan(self, frame: Frame, expected: Mapping[int, BoundingBox]) -> Scan:
        """Return the faces of the frame; every expected place was searched."""
        return Scan(tuple(self._detector.detect(frame)), frozenset(expected))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """How often to look where.

    ``sweep_s``: every place in which something changes is searched once in this time; 0.12 s
    leaves enough of half a second for a new face to be compared three times. ``follow_s``: a
    followed face is looked for when it was last searched longer ago; 0.06 s is every other frame
    at 30 a second and every frame at 15 or fewer. ``max_tile_px``: a frame is cut into tiles no
    longer than this; 860, because a face of 45 px, the least that passes the gate on eye
    distance, is then 10 px wide in the 192 px of the full range, the least that it finds.
    ``min_score``: what a face must reach when it is found by the sweep. ``min_followed_score``:
    the same where a face is expected; 0.3 finds 98 % again where 0.5 finds 90 %.
    """

    sweep_s: float = 0.12
    follow_s: float = 0.06
    max_tile_px: int = 860
    min_score: float = 0.5
    min_followed_score: float = 0.3

    def __post_init__(self) -> None:
        times = (self.sweep_s, self.follow_s)
        if not all(math.isfinite(value) and value >= 0.0 for value in times):
            raise InvalidInputError(f"scan times must be finite and at least 0, got {times}")
        if self.max_tile_px < 64:
            raise InvalidInputError(f"max_tile_px must be at least 64, got {self.max_tile_px}")
        if not 0.0 < self.min_followed_score <= self.min_score <= 1.0:
            raise InvalidInputError(
                "wanted 0 < min_followed_score <= min_score <= 1, got "
                f"{self.min_followed_score} and {self.min_score}"
            )


class SpreadScanner:
    """Spreads the search over frames; for one stream.

    ``short`` and ``full`` are detectors for near and far faces, ``regions`` is one for near faces
    that returns those from ``min_followed_score`` on. The caller closes them.
    """

    def __init__(
        self,
        short: FaceDetector,
        full: FaceDetector,
        regions: FaceDetector,
        options: ScanOptions | None = None,
    ) -> None:
        self._short, self._full, self._regions = short, full, regions
        self._options = options or ScanOptions()
        self._sweep: Sweep | None = None
        self._looked_s: dict[int, float] = {}

    def scan(self, frame: Frame, expected: Mapping[int, BoundingBox]) -> Scan:
        """Return what is found in ``frame``: some cells of the sweep, and the faces that are due.

        The first frame, and the first of another size, is searched whole.
        """
        now_s = frame.timestamp_s
        if self._sweep is None or self._sweep.size != frame.size:
            self._sweep = Sweep(
                frame.size, sweep_s=self._options.sweep_s, max_tile_px=self._options.max_tile_px
            )
        cells = list(self._sweep.due(frame))
        found = [face for cell in cells for face in self._find_in_cell(frame, cell)]
        looked = {
            track
            for track, box in expected.items()
            if any(_sees(cell, box, frame.size) for cell in cells)
        }
        due = [
            track
            for track in expected
            if not any(overlap_of_smaller(expected[track], face.box) > 0.5 for face in found)
            and self._is_due(track, now_s)
        ]
        found += find_in_regions(self._regions, frame, [expected[track] for track in due])
        looked.update(due)
        before = self._looked_s
        self._looked_s = {
            track: now_s if track in looked else before.get(track, now_s) for track in expected
        }
        return Scan(tuple(unique_faces(found)), frozenset(looked))

    def _is_due(self, track: int, now_s: float) -> bool:
        last_s = self._looked_s.get(track)
        # A clock that was set back makes every face due.
        return last_s is None or not 0.0 <= now_s - last_s < self._options.follow_s

    def _find_in_cell(self, frame: Frame, cell: Cell) -> list[FaceDetection]:
        detector = self._full if cell.full_range else self._short
        whole = cell.width_px == frame.size.width_px and cell.height_px == frame.size.height_px
        if whole:
            return detector.detect(frame)
        part = Frame(cell.cut(frame.pixels), frame.timestamp_s, frame.index, frame.source)
        return [_moved(face, cell) for face in detector.detect(part)]


_SHORT_RANGE_SHARE = 1 / 8
_FULL_RANGE_SHARE = 1 / 19
"""The smallest face that a range finds, as a share of the longer side of what it looks at: 16 of
128 px and 10 of 192 px."""


def _sees(cell: Cell, box: BoundingBox, size: Size) -> bool:
    """Return whether a face at ``box`` would be found in this cell."""
    if cell.full_range and overlap_of_smaller(cell.box, box) < 1.0:
        touches_edge = not _inside(box, size)
        if not touches_edge or overlap_of_smaller(cell.box, box) < 0.5:
            return False
    share = _FULL_RANGE_SHARE if cell.full_range else _SHORT_RANGE_SHARE
    return max(box.width_px, box.height_px) >= share * max(cell.width_px, cell.height_px)


def _inside(box: BoundingBox, size: Size) -> bool:
    return (
        box.left_px >= 0
        and box.top_px >= 0
        and box.right_px <= size.width_px
        and box.bottom_px <= size.height_px
    )


def _moved(face: FaceDetection, cell: Cell) -> FaceDetection:
    """Return a detection in a cell as one in the frame."""
    box = face.box
    return FaceDetection(
        BoundingBox(
            box.left_px + cell.left_px, box.top_px + cell.top_px, box.width_px, box.height_px
        ),
        face.score,
        face.keypoints_px + np.array([cell.left_px, cell.top_px], np.float32),
    )
