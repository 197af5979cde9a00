"""Tracks: which faces of one frame are those of the frame before.

Boxes are joined by overlap, best pair first. That is enough for faces that move less than their
own width from frame to frame; crossing faces may change places, which the decision over a track
has to survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeface.errors import InvalidInputError
from edgeface.types import BoundingBox, FaceDetection

__all__ = ["Tracker", "TrackerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """When two boxes are one face.

    ``min_iou``: 0.3 joins a square box with one that moved by half its width (IoU 1/3), and not
    with a neighbour that it merely touches. ``max_missed_frames``: a track outlives this many
    frames without a detection; 10 bridges a blink of the detector at 10 to 30 frames a second,
    and is short enough that the next person in the same place is a new track.
    """

    min_iou: float = 0.3
    max_missed_frames: int = 10

    def __post_init__(self) -> None:
        if not 0.0 < self.min_iou <= 1.0:
            raise InvalidInputError(f"min_iou must be above 0 and at most 1, got {self.min_iou}")
        if self.max_missed_frames < 0:
            raise InvalidInputError(
                f"max_missed_frames must be at least 0, got {self.max_missed_frames}"
            )


@dataclass(frozen=True, slots=True)
class _Track:
    box: BoundingBox
    missed_frames: int = 0


class Tracker:
    """Gives each face of a stream a number that stays with it. Not for use from several threads."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._tracks: dict[int, _Track] = {}
        self._lost: tuple[int, ...] = ()
        self._next_id = 1

    @property
    def lost(self) -> tuple[int, ...]:
        """The tracks that ended with the last :meth:`update` or :meth:`finish`, ascending."""
        return self._lost

    @property
    def active(self) -> tuple[int, ...]:
        """The tracks that have not ended, seen in the last frame or not, ascending."""
        return tuple(sorted(self._tracks))

    def update(self, detections: Sequence[FaceDetection]) -> list[int]:
        """Return the track of each of the next frame's ``detections``, in their order.

        Tracks are numbered from 1; a number is never used again.
        """
        joined = self._join(detections)
        self._age(set(joined.values()))
        ids = []
        for index, detection in enumerate(detections):
            track_id = joined[index] if index in joined else self._take_id()
            self._tracks[track_id] = _Track(detection.box)
            ids.append(track_id)
        return ids

    def finish(self) -> tuple[int, ...]:
        """Return the tracks still there and end them: the stream is over."""
        self._lost = self.active
        self._tracks.clear()
        return self._lost

    def _join(self, detections: Sequence[FaceDetection]) -> dict[int, int]:
        """Return the track of each detection that continues one, by the detection's position."""
        pairs = [
            (-overlap, track_id, index)
            for track_id, track in self._tracks.items()
            for index, detection in enumerate(detections)
            if (overlap := track.box.iou(detection.box)) >= self._options.min_iou
        ]
        joined: dict[int, int] = {}
        taken: set[int] = set()
        for _, track_id, index in sorted(pairs):
            if index not in joined and track_id not in taken:
                joined[index] = track_id
                taken.add(track_id)
        return joined

    def _age(self, seen: set[int]) -> None:
        aged = {
            track_id: _Track(track.box, 0 if track_id in seen else track.missed_frames + 1)
            for track_id, track in self._tracks.items()
        }
        limit = self._options.max_missed_frames
        self._lost = tuple(sorted(i for i, track in aged.items() if track.missed_frames > limit))
        self._tracks = {i: track for i, track in aged.items() if track.missed_frames <= limit}

    def _take_id(self) -> int:
        track_id = self._next_id
        self._next_id += 1
        return track_id
