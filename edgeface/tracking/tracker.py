"""Gives each face of a stream a number that stays with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeface.errors import InvalidInputError
from edgeface.tracking.assignment import best_pairs
from edgeface.tracking.motion import MotionOptions, MovingBox
from edgeface.types import BoundingBox, FaceDetection

__all__ = ["Tracker", "TrackerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """When two boxes are one face.

    ``min_iou``: 0.3 joins a square box with one that is off by half its width (IoU 1/3), and not
    with a neighbour that it merely touches. ``min_iou_after_miss``: the same for a face that was
    hidden, whose place is less sure. ``max_missed_frames``: without times, a track outlives
    this many frames without a detection; 10 bridges a blink of the detector at 10 to 30 frames a
    second. ``max_missed_s``: with times, a track outlives this long unseen; 1.0 s, about what one
    person takes to walk past behind another. ``min_new_score``: a detection below it continues a
    track, but begins none. ``max_unsure_s``: nor does it keep one for longer than this; hair seen
    from behind passes for a face with a low score.
    """

    min_iou: float = 0.3
    min_iou_after_miss: float = 0.1
    max_missed_frames: int = 10
    max_missed_s: float = 1.0
    min_new_score: float = 0.5
    max_unsure_s: float = 2.0
    motion: MotionOptions = field(default_factory=MotionOptions)

    def __post_init__(self) -> None:
        if not 0.0 < self.min_iou <= 1.0:
            raise InvalidInputError(f"min_iou must be above 0 and at most 1, got {self.min_iou}")
        if not 0.0 < self.min_iou_after_miss <= 1.0:
            raise InvalidInputError(
                f"min_iou_after_miss must be above 0 and at most 1, got {self.min_iou_after_miss}"
            )
        if self.max_missed_frames < 0:
            raise InvalidInputError(
                f"max_missed_frames must be at least 0, got {self.max_missed_frames}"
            )
        times = (self.max_missed_s, self.max_unsure_s)
        if not all(math.isfinite(time_s) and time_s >= 0.0 for time_s in times):
            raise InvalidInputError(
                f"max_missed_s and max_unsure_s must be finite and at least 0, got {times}"
            )
        if not 0.0 <= self.min_new_score <= 1.0:
            raise InvalidInputError(f"min_new_score must be in 0..1, got {self.min_new_score}")


@dataclass(frozen=True, slots=True)
class _Track:
    motion: MovingBox
    sure_s: float
    missed_looks: int = 0
    is_contested: bool = False


class Tracker:
    """Follows the faces of one stream. Not for use from several threads.

    :meth:`follow` takes frames with their times and may be told that only some places were
    searched; :meth:`update` takes frames that were searched whole and come at a steady pace. Use
    one of the two.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._tracks: dict[int, _Track] = {}
        self._lost: tuple[int, ...] = ()
        self._doubtful: frozenset[int] = frozenset()
        self._next_id = 1
        self._now_s = 0.0

    @property
    def lost(self) -> tuple[int, ...]:
        """The tracks that ended with the last :meth:`update` or :meth:`finish`, ascending."""
        return self._lost

    @property
    def active(self) -> tuple[int, ...]:
        """The tracks that have not ended, seen in the last frame or not, ascending."""
        return tuple(sorted(self._tracks))

    @property
    def doubtful(self) -> frozenset[int]:
        """The tracks that the last :meth:`update` may have joined with another's face.

        They were found again after they had been missed, or their box lay on another's.
        """
        return self._doubtful

    def expected(self, time_s: float) -> dict[int, BoundingBox]:
        """Return where each track should be at ``time_s``."""
        motion = self._options.motion
        return {number: track.motion.at(time_s, motion) for number, track in self._tracks.items()}

    def update(self, detections: Sequence[FaceDetection]) -> list[int]:
        """Return the track of each of the next frame's ``detections``, in their order.

        Every detection has one, however weak. Tracks are numbered from 1; a number is never used
        again.
        """
        ids = self._follow(detections, self._now_s + 1.0, set(self._tracks), min_new_score=0.0)
        limit = self._options.max_missed_frames
        self._end([n for n, track in self._tracks.items() if track.missed_looks > limit])
        return [number for number in ids if number is not None]

    def follow(
        self, detections: Sequence[FaceDetection], *, time_s: float, looked: Collection[int]
    ) -> list[int | None]:
        """Return the track of each of the ``detections`` in a frame taken at ``time_s``.

        None for one that continues no track and is too weak to begin one. ``looked`` are the
        tracks that were searched for: only these can be missed. A time before the last one is
        taken for the last one, so that a clock that is set back moves nothing.
        """
        now_s = max(self._now_s, time_s) if self._tracks else time_s
        ids = self._follow(
            detections, now_s, set(looked), min_new_score=self._options.min_new_score
        )
        self._end([n for n, track in self._tracks.items() if self._is_over(track, now_s)])
        return ids

    def _follow(
        self,
        detections: Sequence[FaceDetection],
        now_s: float,
        looked: set[int],
        *,
        min_new_score: float,
    ) -> list[int | None]:
        self._now_s = now_s
        expected = self.expected(now_s)
        joined = self._join(detections, expected)
        self._miss(looked - set(joined.values()))
        ids: list[int | None] = []
        doubtful = set()
        for index, detection in enumerate(detections):
            number = joined.get(index)
            if number is not None:
                if self._continue(number, detection, now_s, expected):
                    doubtful.add(number)
            elif detection.score >= min_new_score:
                number = self._begin(detection.box, now_s)
            ids.append(number)
        self._doubtful = frozenset(doubtful)
        return ids

    def swap(self, one: int, other: int) -> None:
        """Exchange the numbers of two tracks: they had changed faces.

        Raises:
            InvalidInputError: A number is not that of an active track.
        """
        if one not in self._tracks or other not in self._tracks:
            raise InvalidInputError(f"only active tracks can be swapped, got {one} and {other}")
        self._tracks[one], self._tracks[other] = self._tracks[other], self._tracks[one]

    def finish(self) -> tuple[int, ...]:
        """Return the tracks still there and end them: the stream is over."""
        self._lost = self.active
        self._tracks.clear()
        return self._lost

    def _join(
        self, detections: Sequence[FaceDetection], expected: Mapping[int, BoundingBox]
    ) -> dict[int, int]:
        """Return the track of each detection that continues one, by the detection's position."""
        gains = {
            (index, number): overlap
            for number, box in expected.items()
            for index, detection in enumerate(detections)
            if (overlap := box.iou(detection.box)) >= self._min_iou(number)
        }
        return best_pairs(gains)

    def _min_iou(self, number: int) -> float:
        was_missed = self._tracks[number].missed_looks > 0
        return self._options.min_iou_after_miss if was_missed else self._options.min_iou

    def _continue(
        self, number: int, face: FaceDetection, now_s: float, expected: Mapping[int, BoundingBox]
    ) -> bool:
        """Move a track on to ``face``; return whether it may be another's face."""
        track, options, box = self._tracks[number], self._options, face.box
        contested = any(
            other != number and place.iou(box) >= _CONTESTED_IOU
            for other, place in expected.items()
        )
        motion = track.motion.updated(box, now_s, options.motion)
        sure_s = now_s if face.score >= options.min_new_score else track.sure_s
        self._tracks[number] = _Track(motion, sure_s, is_contested=contested)
        return contested or track.is_contested or track.missed_looks >= _DOUBTFUL_LOOKS

    def _begin(self, box: BoundingBox, now_s: float) -> int:
        number = self._next_id
        self._next_id += 1
        self._tracks[number] = _Track(MovingBox(box, now_s), now_s)
        return number

    def _miss(self, numbers: Collection[int]) -> None:
        for number in numbers:
            track = self._tracks.get(number)
            if track is not None:
                self._tracks[number] = replace(track, missed_looks=track.missed_looks + 1)

    def _end(self, numbers: Sequence[int]) -> None:
        self._lost = tuple(sorted(numbers))
        for number in numbers:
            del self._tracks[number]

    def _is_over(self, track: _Track, now_s: float) -> bool:
        options = self._options
        unseen_s, unsure_s = now_s - track.motion.time_s, now_s - track.sure_s
        was_missed = track.missed_looks >= 1 and unseen_s > options.max_missed_s
        return was_missed or unsure_s > options.max_unsure_s


_CONTESTED_IOU = 0.15
"""From this overlap on a detection may be of either of two faces."""
_DOUBTFUL_LOOKS = 3
"""A face that was missed this often may have been hidden, and another may have come out."""
