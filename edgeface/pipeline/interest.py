"""Which of the followed faces are worth a closer look in this frame.

Landmarks and an embedding cost several times what following a face costs. A face gets them when
it is new, when something about its track is in doubt, when it shows more than it did before, and
now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.errors import InvalidInputError
from edgeface.types import FaceDetection, IdentificationResult, Outcome, RejectionReason

__all__ = [
    "NOT_COMPARED",
    "ComparisonBudget",
    "ComparisonOptions",
    "Interest",
    "has_landmarks",
    "most_urgent",
    "promise",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonOptions:
    """How often faces are compared.

    ``per_second``: closer looks at all faces of a stream, or of all streams of a group, together;
    ``burst``: how many of these may come at once after a quiet time. ``urgent_s``: between two
    looks at a face that is new or in doubt; 0.03 s is every frame up to 30 a second. ``retry_s``:
    at one whose look failed, or that shows more than before. ``refresh_s``: at any other.
    ``better``: by what factor it must show more.
    """

    per_second: float = 15.0
    burst: int = 6
    urgent_s: float = 0.03
    retry_s: float = 0.2
    refresh_s: float = 1.0
    better: float = 1.2

    def __post_init__(self) -> None:
        times = (self.urgent_s, self.retry_s, self.refresh_s)
        if not all(math.isfinite(one) and one >= 0.0 for one in times):
            raise InvalidInputError(f"times must be finite and at least 0, got {times}")
        if not (self.per_second > 0.0 and self.burst >= 1 and self.better >= 1.0):
            raise InvalidInputError(
                "wanted per_second above 0, burst and better of at least 1, got "
                f"{self.per_second}, {self.burst} and {self.better}"
            )

    @classmethod
    def every_frame(cls) -> ComparisonOptions:
        """Return the options that compare every face in every frame."""
        return cls(
            per_second=math.inf, burst=1 << 20, urgent_s=0.0, retry_s=0.0, refresh_s=0.0, better=1.0
        )


class ComparisonBudget:
    """Closer looks that may still be taken, over all streams that share it."""

    def __init__(self, options: ComparisonOptions) -> None:
        self._options = options
        self._left = float(options.burst)
        self._time_s: float | None = None

    def take(self, wanted: int, now_s: float) -> int:
        """Return how many of ``wanted`` looks may be taken now, and count them as taken."""
        last_s = now_s if self._time_s is None else self._time_s
        passed_s = max(0.0, now_s - last_s)
        # Streams that share a budget need not agree on the time: the latest one counts.
        self._time_s = max(now_s, last_s)
        earned = passed_s * self._options.per_second if passed_s else 0.0
        self._left = min(float(self._options.burst), self._left + earned)
        # Sums of frame times have rounding errors.
        taken = min(wanted, int(self._left + 1e-6))
        self._left = max(0.0, self._left - taken)
        return taken


_FULL_EYE_DISTANCE_PX = 35.0
"""A crop of 112 px has its eyes 35 px apart: more than that is thrown away."""
_EYE_DISTANCE_SHARE = 0.42
"""Of the width of BlazeFace's box, for a frontal face."""


def promise(detection: FaceDetection) -> float:
    """Return what a face may be worth, in 0..1, from its detection alone.

    Large, sure and frontal is best. How far it is turned is told from BlazeFace's eyes, nose and
    ears; without these key points it is taken for frontal.
    """
    points = detection.keypoints_px
    frontal, eyes_px = 1.0, _EYE_DISTANCE_SHARE * detection.box.width_px
    if len(points) == 6:
        eyes_px = float(np.linalg.norm(points[1] - points[0]))
        across = points[5] - points[4]
        width = float(np.linalg.norm(across))
        if width > 0.0:
            off = float((points[2] - points[4:6].mean(0)) @ across)
            aside = abs(off) / width**2
            frontal = max(0.0, 1.0 - 2.0 * aside)
    return float(detection.score * min(1.0, eyes_px / _FULL_EYE_DISTANCE_PX) * frontal)


_MAX_DOUBLINGS = 8
_LANDMARK_REASONS = frozenset(
    {RejectionReason.LANDMARKS_NOT_FOUND, RejectionReason.LANDMARKS_IMPLAUSIBLE}
)


def has_landmarks(result: IdentificationResult) -> bool:
    """Return whether the face of a look had landmarks that can be a face's."""
    return _LANDMARK_REASONS.isdisjoint(result.reasons)


class Interest:
    """What is known about the looks at one track."""

    def __init__(self, options: ComparisonOptions) -> None:
        self._options = options
        self._tried_s: float | None = None
        self._best = 0.0
        self._best_quality = 0.0
        self._compared_s: float | None = None
        self._in_doubt = False
        self._failed = False
        self._without_landmarks = 0

    def doubt(self) -> None:
        """Note that the track may have changed faces."""
        self._in_doubt = True

    def urgency(
        self, detection: FaceDetection, said: IdentificationResult | None, now_s: float
    ) -> tuple[int, float] | None:
        """Return what to sort by, the most urgent first, or None when no look is due.

        ``said`` is what the track says so far.
        """
        if self._tried_s is None:
            return 0, -math.inf
        since_s = now_s - self._tried_s
        if self._in_doubt:
            rank, wait_s = 0, self._options.urgent_s
        elif self._failed:
            rank, wait_s = 2, self._wait_after_failure_s(detection)
        elif said is None:
            rank, wait_s = 1, self._options.urgent_s
        elif self._shows_more(detection):
            rank, wait_s = 2, self._options.retry_s
        else:
            rank, wait_s = 3, self._options.refresh_s
        # A clock that was set back makes the look due; so do rounding errors of frame times.
        is_due = since_s < 0.0 or since_s >= wait_s - 1e-6
        return (rank, self._tried_s) if is_due else None

    def _wait_after_failure_s(self, detection: FaceDetection) -> float:
        """Return the wait after a look that failed: longer and longer where there is no face."""
        if self._without_landmarks and not self._shows_more(detection):
            longer = 2.0 ** min(self._without_landmarks - 1, _MAX_DOUBLINGS)
            return min(self._options.retry_s * longer, self._options.refresh_s)
        return self._options.retry_s

    def _shows_more(self, detection: FaceDetection) -> bool:
        return promise(detection) >= self._options.better * self._best

    def is_worth_embedding(
        self, quality: float, said: IdentificationResult | None, now_s: float
    ) -> bool:
        """Return whether a face of this quality adds to what is known."""
        settled = said is not None and said.outcome is Outcome.KNOWN and not self._in_doubt
        if not settled or self._compared_s is None:
            return True
        stale = not 0.0 <= now_s - self._compared_s < self._options.refresh_s - 1e-6
        return stale or quality > self._best_quality

    def looked(
        self,
        detection: FaceDetection,
        result: IdentificationResult | None,
        quality: float,
        now_s: float,
    ) -> None:
        """Note a look and its result; None when the face was not worth an embedding."""
        self._tried_s = now_s
        self._best = max(self._best, promise(detection))
        if result is None:
            return
        self._failed = result.outcome is Outcome.REJECTED
        no_landmarks = self._failed and not has_landmarks(result)
        self._without_landmarks = self._without_landmarks + 1 if no_landmarks else 0
        if not self._failed:
            self._compared_s = now_s
            self._best_quality = max(self._best_quality, quality)
            self._in_doubt = False


NOT_COMPARED = IdentificationResult(Outcome.REJECTED, reasons=(RejectionReason.NOT_COMPARED,))
"""What a frame says of a face whose turn has not come yet."""


def most_urgent(
    urgencies: Mapping[int, tuple[int, float] | None], budget: ComparisonBudget, now_s: float
) -> list[int]:
    """Return the tracks whose turn it is, within the budget."""
    due = sorted((urgency, track) for track, urgency in urgencies.items() if urgency is not None)
    return [track for _, track in due[: budget.take(len(due), now_s)]]
