"""Whether a face is too constant to be alive, or moves as a sheet of paper does.

A person blinks, breathes, speaks and turns; brought to one place and size by its landmarks, their
face changes from frame to frame. A photo on a stand does not, nor does one that is moved and
turned in its own plane. A photo that is tilted changes, but its points keep to one plane: an
affine map takes them from frame to frame, where the nose of a head goes its own way.

This check only holds a face back. It never lets one pass that the networks refuse: a video on a
screen moves like a person.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.alignment import align
from edgeface.errors import InvalidInputError
from edgeface.pad.outcome import PadDecision, PadOutcome, PadReason
from edgeface.types import FaceLandmarks, Frame

__all__ = ["StillnessCheck", "StillnessOptions", "StillnessReport", "face_pattern"]

_Pattern = npt.NDArray[np.float64]
_TEMPLATE = "arcface-112x112"
# Blocks of 4 px: small enough for an eyelid, large enough to lose the noise of a camera. Rows and
# columns are those from the brows to the chin and between the cheeks.
_BLOCK_PX, _ROWS, _COLUMNS = 4, slice(6, 26), slice(5, 23)
_LEAST_CONTRAST = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class StillnessOptions:
    """What is too constant.

    ``span_s`` seconds are looked at, once ``min_frames`` of them are there that span most of it.
    ``min_change`` is the least :attr:`StillnessReport.change` of a living face.
    ``min_foreshortening`` and ``max_sheet_bend`` say what a sheet is: its points are foreshortened
    at least so much, and yet bend no more than so. After ``patience_s`` without a living window
    the decision is an attack. A gap of ``max_gap_s`` starts anew.
    """

    # Measured at 10 frames a second over 2 and 3 s. Two clips of living people: change at least
    # 0.17. Three photos with a camera's noise, JPEG and a hand's trembling put on: at most 0.002.
    # Photos tilted by 29 degrees to both sides: change 0.02 to 0.11, foreshortening 0.12 to 0.14,
    # bend 0.006 to 0.020; the people: bend 0.038 to 0.13. No person who sits as still as they can
    # was among them, and no real sheet of paper.
    span_s: float = 2.0
    min_frames: int = 8
    min_change: float = 0.005
    min_foreshortening: float = 0.1
    max_sheet_bend: float = 0.025
    patience_s: float = 15.0
    max_gap_s: float = 1.0

    def __post_init__(self) -> None:
        values = (self.span_s, self.patience_s, self.max_gap_s)
        if not all(0.0 < value < math.inf for value in values) or self.min_frames < 2:
            raise InvalidInputError(
                "span_s, patience_s and max_gap_s must be above 0 and min_frames at least 2, got "
                f"{self}"
            )
        limits = (self.min_change, self.min_foreshortening, self.max_sheet_bend)
        if not all(0.0 <= value < math.inf for value in limits):
            raise InvalidInputError(f"limits must be finite and at least 0, got {self}")


@dataclass(frozen=True, slots=True)
class StillnessReport:
    """How a face changed over the window.

    ``change``: 1 minus the correlation of the aligned face with its median over the window, in
    the frame that 95 % do not exceed; 0 for a picture that does not change, about 1 for different
    pictures. ``foreshortening``: range of the logarithm of the distance of the eyes over that from
    eyes to mouth; 0.1 is a tilt of about 25 degrees. ``bend``: distance of the five points from
    the best affine map of their mean, in distances of the eyes; what a flat thing cannot do.
    """

    change: float
    foreshortening: float
    bend: float
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    time_s: float
    pattern: _Pattern
    points_px: _Pattern


def face_pattern(frame: Frame, landmarks: FaceLandmarks) -> _Pattern:
    """Return the (360,) float64 luminance of a face in blocks, of mean 0 and length 1.

    All zero for a face without any contrast.
    """
    pixels = align(frame, landmarks.points_px, _TEMPLATE).pixels
    light = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    side = light.shape[0] // _BLOCK_PX
    blocks = light.reshape(side, _BLOCK_PX, side, _BLOCK_PX).mean((1, 3))
    values = blocks[_ROWS, _COLUMNS].ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > _LEAST_CONTRAST else np.zeros_like(values)


class StillnessCheck:
    """The check of one track. Not for use from several threads."""

    def __init__(self, options: StillnessOptions | None = None) -> None:
        self._options = options or StillnessOptions()
        self._seen: deque[_Seen] = deque()
        self._waiting_since_s: float | None = None
        self.report: StillnessReport | None = None
        """Of the window that was judged last; None before there was one."""

    def update(self, frame: Frame, landmarks: FaceLandmarks | None, now_s: float) -> PadDecision:
        """Return the decision after one more frame; ``landmarks`` are None when not found.

        ``now_s`` is the frame's time on a monotonic clock. A time that goes back starts anew.

        Raises:
            InvalidInputError: ``now_s`` is not finite, or the landmarks lie on one spot.
        """
        if not math.isfinite(now_s):
            raise InvalidInputError(f"now_s must be a finite time in seconds, got {now_s}")
        if landmarks is None:
            return self._held_back(PadReason.TOO_FEW_FRAMES, now_s)
        self._start_anew(now_s)
        points = landmarks.points_px.astype(np.float64)
        self._seen.append(_Seen(now_s, face_pattern(frame, landmarks), points))
        while now_s - self._seen[0].time_s > self._options.span_s:
            self._seen.popleft()
        return self._decide(now_s)

    def _start_anew(self, now_s: float) -> None:
        if self._seen and not 0 <= now_s - self._seen[-1].time_s <= self._options.max_gap_s:
            self._seen.clear()
            self._waiting_since_s = None

    def _decide(self, now_s: float) -> PadDecision:
        seen, options = list(self._seen), self._options
        # Most of the span: at 10 frames a second the window is up to one frame shorter.
        long_enough = seen[-1].time_s - seen[0].time_s >= 0.8 * options.span_s
        if len(seen) < options.min_frames or not long_enough:
            return self._held_back(PadReason.TOO_FEW_FRAMES, now_s)
        self.report = report = _measured(seen)
        # Said so that NaN holds the face back.
        if not report.change >= options.min_change:
            return self._held_back(PadReason.TOO_STILL, now_s)
        bends = report.bend > options.max_sheet_bend
        if report.foreshortening >= options.min_foreshortening and not bends:
            return self._held_back(PadReason.MOVES_LIKE_A_SHEET, now_s)
        self._waiting_since_s = None
        return PadDecision(PadOutcome.BONA_FIDE, frames=len(seen))

    def _held_back(self, reason: PadReason, now_s: float) -> PadDecision:
        if self._waiting_since_s is None or now_s < self._waiting_since_s:
            self._waiting_since_s = now_s
        waited_s = now_s - self._waiting_since_s
        # Too few frames say nothing about the face, however long it takes.
        gone = waited_s > self._options.patience_s and reason is not PadReason.TOO_FEW_FRAMES
        outcome = PadOutcome.ATTACK if gone else PadOutcome.UNDECIDED
        return PadDecision(outcome, None, len(self._seen), (reason,))


def _measured(seen: list[_Seen]) -> StillnessReport:
    patterns = np.stack([each.pattern for each in seen])
    points = np.stack([each.points_px for each in seen])
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    down = np.linalg.norm(points[:, 3:].mean(1) - points[:, :2].mean(1), axis=1)
    low, high = np.quantile(np.log(np.maximum(eyes, 1e-6) / np.maximum(down, 1e-6)), (0.05, 0.95))
    return StillnessReport(
        change=float(np.quantile(_changes(patterns), 0.95)),
        foreshortening=float(high - low),
        bend=float(np.quantile(_bends(points), 0.9) / max(float(eyes.mean()), 1e-6)),
        frames=len(seen),
    )


def _changes(patterns: _Pattern) -> _Pattern:
    """Return 1 minus the correlation of each pattern with the median of all."""
    median = np.median(patterns, axis=0)
    length = float(np.linalg.norm(median))
    if length == 0:
        return np.zeros(len(patterns))
    return np.asarray(1 - patterns @ median / length)


def _bends(points: _Pattern) -> _Pattern:
    """Return, for each frame, how far (root mean square) its points are from an affine map.

    ``points`` is (n, 5, 2); the map takes the mean points to those of the frame.
    """
    flat = np.hstack([points.mean(0), np.ones((points.shape[1], 1))])
    # What the least-squares map leaves is the part outside of the space of its columns.
    left, singular, _ = np.linalg.svd(flat, full_matrices=False)
    space = left[:, singular > singular[0] * 1e-9]
    rest = points - space @ (space.T @ points)
    return np.asarray(np.sqrt((rest**2).sum(2).mean(1)))
